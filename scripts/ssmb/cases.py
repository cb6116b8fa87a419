"""What `ssmbench bench` timed, one record per case, for the figures of speed and memory."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np

from . import marks
from .results import Run
from .series import SAME_MARK

MODES = {"forward": "forward", "forward_backward": "forward + backward", "decode": "decode", "train": "training step"}


@dataclass
class Case:
    level: str  # op, mixer, step
    variant: str
    mode: str  # one of MODES
    B: int
    T: int
    D: int
    threads: int
    tokens: float  # of one call
    flops: float
    bytes: float
    memory: float  # bytes, the most allocated at once
    seconds: np.ndarray  # samples, each of one call
    part: str = ""  # op level: <nn>.<op>.<pass>
    device: str = ""  # with the precision of matrix products, where that is not fp32
    N: int = -1  # d_state; -1: the variant has none, or the file does not say
    view: str = ""
    precision: str = ""  # of matrix products
    label: str = ""  # of its line: see named

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.median


def cases(runs: list[Run], levels=("mixer", "step")) -> list[Case]:
    """Every case that was timed; at the op level one per op and pass."""
    out = []
    for run in runs:
        for i in range(len(run.bench.get("case", ()))):
            row = {name: column[i] for name, column in run.bench.items()}
            if row["level"] in levels:
                out += _timed(run, row)
    return out


def _precision(run: Run, row: dict) -> str:
    return str(row.get("precision") or run.precision)


def _device(run: Run, row: dict) -> str:
    precision = _precision(run, row)
    return run.device if precision != "tf32" else f"{run.device}, {precision}"


def _setting(row: dict) -> tuple[int, str]:
    return int(row.get("N", -1)), str(row.get("view", ""))


def _timed(run: Run, row: dict) -> Iterable[Case]:
    name, threads = str(row["case"]), int(row.get("threads", run.meta.get("threads", 0)))
    common = [str(row["level"]), str(row["variant"]), str(row["mode"])]
    common += [int(row["B"]), int(row["T"]), int(row["D"]), threads, float(row["tokens"])]
    setting = _device(run, row), *_setting(row), _precision(run, row)
    for phase, timing in run.timing.items():
        seconds = np.asarray(timing["seconds"], dtype=float)
        if phase == name:
            work = float(row["flops"]), float(row["bytes"]), float(row["high_water"])
            yield Case(*common, *work, seconds, "", *setting)
        elif phase.startswith(name + ".") and row["level"] == "op" and "flops" in timing:
            part = phase.removeprefix(name + ".")
            yield Case(*common, timing["flops"], timing["bytes"], float("nan"), seconds, part, *setting)


@dataclass
class Missing:
    """A case that was asked for and has no time."""

    variant: str
    mode: str
    T: int
    device: str
    N: int
    view: str
    reason: str


def missing(runs: list[Run], levels=("mixer", "step")) -> list[Missing]:
    """Those for which there is no time in any of the runs."""
    timed = {(c.variant, c.mode, c.T, c.device, c.N, c.view) for c in cases(runs, levels)}
    out = {}
    for run in runs:
        for i in range(len(run.bench.get("reason", ()))):
            row = {name: column[i] for name, column in run.bench.items()}
            key = str(row["variant"]), str(row["mode"]), int(row["T"]), _device(run, row), *_setting(row)
            if row["level"] in levels and row["state"] in ("skipped", "failed") and key not in timed:
                out[key] = Missing(*key, str(row["reason"]))
    return list(out.values())


def named(found: list[Case]) -> None:
    """Labels: the variant, and its view and N where it has several of them here."""
    for c in found:
        mine = [o for o in found if o.variant == c.variant]
        said = [c.view] if len({o.view for o in mine}) > 1 else []
        said += [f"N {c.N}"] if len({o.N for o in mine}) > 1 else []
        c.label = " ".join([c.variant, *filter(None, said)])


def line_marks(found: list[Case]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and dash by label: few lines of a variant share its colour, many have each their own."""
    out, labels = {}, {}
    for c in sorted(found, key=lambda c: c.label):
        labels.setdefault(c.variant, {})[c.label] = None
    for variant, mine in labels.items():
        for i, label in enumerate(mine):
            colour, marker = marks.mark(variant if len(mine) < SAME_MARK else label)
            free = [m for m in marks.FREE if m not in {mark[:2] for mark in out.values()}]
            if len(mine) >= SAME_MARK and (colour, marker) not in free:
                colour, marker = free[0] if free else (colour, marker)
            out[label] = colour, marker, ("-", "--", "-.", ":")[i % 4]
    return out


def pooled(found: list[Case]) -> list[Case]:
    """Cases that several files have timed, as one: with the samples of all."""
    out = {}
    for c in found:
        same = replace(c, seconds=None, memory=0.0)
        key = tuple(getattr(same, f.name) for f in fields(same))
        if key in out:
            out[key].seconds = np.concatenate([out[key].seconds, c.seconds])
        else:
            out[key] = replace(c)
    return list(out.values())


def widest(found: list[Case], axis: str) -> list[Case]:
    """Of one mode: the cases at the shape (all but `axis`) that has the most values of it. Of T: the same B, or B T."""

    def rest(c: Case, rows: str) -> tuple:
        shape = {"level": c.level, "B": c.B if rows == "B" else c.tokens, "T": c.T, "D": c.D, "threads": c.threads}
        return rows, *(v for k, v in shape.items() if k != axis)

    kinds = ("B", "B T") if axis == "T" else ("B",)
    shapes = {}
    for c in found:
        for rows in kinds:
            shapes.setdefault(rest(c, rows), set()).add(getattr(c, axis))
    best = max(shapes, key=lambda s: (len(shapes[s]), s[0] == "B", s))
    return sorted((c for c in found if rest(c, best[0]) == best), key=lambda c: getattr(c, axis))


def panels(found: list[Case], axis: str) -> dict[str, list[Case]]:
    """By mode, in the order of MODES: the cases to draw against axis; modes with one value of it are left out."""
    out, found = {}, pooled(found)
    for mode in MODES:
        mine = [c for c in found if c.mode == mode]
        mine = widest(mine, axis) if mine else []
        if len({getattr(c, axis) for c in mine}) > 1:
            named(mine)
            out[mode] = mine
    return out


def crossings(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[tuple[float, float]]:
    """Where two curves over common x cross, by straight lines between the logarithms: (x, value)."""
    gap, out = np.log(a) - np.log(b), []
    for i in range(len(x) - 1):
        if gap[i] * gap[i + 1] < 0:
            part = gap[i] / (gap[i] - gap[i + 1])
            at = (np.log(v[i]) * (1 - part) + np.log(v[i + 1]) * part for v in (x, a))
            out.append(tuple(float(np.exp(v)) for v in at))
    return out
