"""HDF5 result files (results/README.md) as plain records. One file is one run.

runs = load("results/quickstart")          # every *.h5 of the folder, unreadable ones included as state "unreadable"
runs = comparable(runs, allow_mixed=False) # refuses mixed devices, code versions and uncommitted trees
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from .program import BadInput

SCHEMA = "ssmbench/1"
FINISHED = ("complete", "skipped", "diverged", "failed")  # what /status says when a run ended by itself


@dataclass
class Reference:
    """A number to draw beside a score. kind: chance, floor, ladder, ceiling, published; value as the metric."""

    kind: str
    label: str
    value: float
    source: str


@dataclass
class Run:
    path: Path
    run_id: str
    created: str = ""
    state: str = "interrupted"  # one of FINISHED, or interrupted (also: still running), or unreadable
    reason: str = ""
    meta: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    check: dict = field(default_factory=dict)
    task: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    energy: dict = field(default_factory=dict)  # source of the joules, or the reason why there are none
    references: list[Reference] = field(default_factory=list)
    train: dict[str, np.ndarray] = field(default_factory=dict)  # columns of one length
    steps_planned: float = float("nan")
    evals: dict[str, np.ndarray] = field(default_factory=dict)
    ops: dict[str, np.ndarray] = field(default_factory=dict)  # /model/ops: costs of one training step, by op
    bench: dict[str, np.ndarray] = field(default_factory=dict)  # /bench: one row per case, empty for training runs
    timing: dict[str, dict] = field(default_factory=dict)  # phase -> {"seconds": raw samples, attributes}
    how: dict = field(default_factory=dict)  # what /timing says of all steps: step_path, data_path, the loader's share
    peer: dict[str, np.ndarray] = field(default_factory=dict)  # /peer: one row per mode of what this was compared with
    versus: dict[str, np.ndarray] = field(default_factory=dict)  # /versus: one row per part compared with another's

    @property
    def kind(self) -> str:
        """train, bench (timings), versus (parts against another's), or eval (a checkpoint scored again, with --out)."""
        if self.versus:
            return "versus"
        if self.bench or self.run_id == "bench":
            return "bench"
        return "eval" if self.evals and not self.train and self.state == "complete" else "train"

    @property
    def mixer(self) -> str:
        """The variant, or the mixers of a hybrid joined by +."""
        layers = str(self.config.get("model.layers") or "")
        if not layers:
            return str(self.config.get("model.variant", "?"))
        return "+".join(dict.fromkeys(part.split("*")[0].strip() for part in layers.split(",")))

    @property
    def task_name(self) -> str:
        return str(self.config.get("task", self.task.get("name", "?")))

    @property
    def metric(self) -> str:
        return str(self.task.get("metric", "accuracy"))

    @property
    def seed(self) -> str:
        seeds = dict.fromkeys(str(self.config.get(f"seed.{name}", "?")) for name in ("init", "data", "dropout"))
        return "/".join(seeds)

    @property
    def version(self) -> str:
        """Short commit hash, + when the tree had uncommitted changes."""
        return str(self.meta.get("git_sha", "unknown"))[:10] + ("+" if self.meta.get("git_dirty") else "")

    @property
    def device(self) -> str:
        return str(self.meta.get("device") or self.meta.get("cpu") or "unknown")

    @property
    def precision(self) -> str:
        """Of matrix products (fp32, tf32, fp64), where a case of the run names no other."""
        return "fp64" if self.meta.get("real") == "double" else str(self.config.get("run.gemm", "fp32"))

    def curve(self, split: str) -> dict[str, np.ndarray]:
        """Rows of /eval of one split, by column; the score is the column `metric`."""
        if not self.evals:
            return {}
        rows = self.evals["split"] == split if "split" in self.evals else slice(None)
        return {name: column[rows] for name, column in self.evals.items()}

    def last_eval(self) -> dict[str, float]:
        """The final score with its slices: the last row of the test split, else of validation."""
        for split in ("test", "validation"):
            rows = self.curve(split)
            if rows and len(rows["step"]):
                return {name: column[-1] for name, column in rows.items()}
        return {}

    def last_slices(self) -> dict[str, float]:
        """Final score on each slice "<axis>=<label>" that had examples."""
        found = {name: float(v) for name, v in self.last_eval().items() if "=" in name and np.isfinite(v)}
        return dict(
            sorted(found.items(), key=lambda kv: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", kv[0])])
        )

    def planned_bytes(self) -> dict[str, float]:
        """The memory plan by class, largest classes of a training run first."""
        plan = {k.removeprefix("bytes_"): float(v) for k, v in self.model.items() if k.startswith("bytes_")}
        plan.pop("without_reuse", None)  # what the activations would take if no buffer were used twice
        return dict(sorted(plan.items(), key=lambda kv: -kv[1]))

    def measured_bytes(self) -> dict[str, float]:
        """high_water: most allocated at once, counted; process_peak: peak resident memory of the process."""
        names = {"high_water": ("high_water", "high_water_bytes"), "process_peak": ("rss", "rss_peak", "process_peak")}
        return {k: float(self.memory[n]) for k, known in names.items() for n in known if n in self.memory}

    def total(self, column: str) -> float:
        """Last value of a /train column (tokens_real, seconds, step), NaN without training."""
        values = self.train.get(column)
        return float(values[-1]) if values is not None and len(values) else float("nan")

    def flops_per_step(self) -> float:
        """Declared by the ops, forward and backward, of a whole optimiser step; NaN when not recorded."""
        parts = [self.ops[f"{way}_flops"].sum() for way in ("forward", "backward") if f"{way}_flops" in self.ops]
        return float(sum(parts)) * int(self.config.get("train.accumulate") or 1) if len(parts) == 2 else float("nan")

    def tokens_per_second(self) -> float:
        """Median over the steps between rows of /train, the first row (first call, warm-up) left out."""
        tokens, seconds = self.train.get("tokens_real"), self.train.get("seconds")
        if tokens is None or seconds is None or len(tokens) == 0:
            return float("nan")
        if len(tokens) < 3:
            return float(tokens[-1] / seconds[-1]) if seconds[-1] > 0 else float("nan")
        dt = np.diff(seconds)
        return float(np.median(np.diff(tokens)[dt > 0] / dt[dt > 0])) if (dt > 0).any() else float("nan")


def _plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def _attributes(file: h5py.File, group: str) -> dict:
    return {name: _plain(value) for name, value in file[group].attrs.items()} if group in file else {}


def _column(dataset: h5py.Dataset) -> np.ndarray:
    return dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]


def _columns(file: h5py.File, group: str) -> dict[str, np.ndarray]:
    if group not in file:
        return {}
    return {name: _column(d) for name, d in file[group].items() if isinstance(d, h5py.Dataset) and d.ndim == 1}


def read(path: Path) -> Run:
    """One result file. A file that cannot be read becomes a record of state "unreadable" with the reason."""
    run = Run(path, path.stem)
    try:
        with h5py.File(path, "r") as f:
            schema = _plain(f.attrs.get("schema", ""))
            if schema != SCHEMA:
                run.state, run.reason = "unreadable", f"schema is {schema!r}, not {SCHEMA!r}"
                return run
            run.run_id = str(_plain(f.attrs.get("run_id", path.stem)))
            run.created = str(_plain(f.attrs.get("created", "")))
            for name in ("meta", "config", "model", "check", "task", "memory", "energy"):
                setattr(run, name, _attributes(f, name))
            run.train, run.evals = _columns(f, "train"), _columns(f, "eval")
            run.ops, run.bench = _columns(f, "model/ops"), _columns(f, "bench")
            said = "nan" if float(run.config.get("train.seconds") or 0) > 0 else run.config.get("train.steps", "nan")
            run.steps_planned = float(_attributes(f, "train").get("steps_planned", said))
            for rows in (run.train, run.evals):
                if "step" in rows:  # what the ops declare, up to each row
                    rows["flops"] = rows["step"] * run.flops_per_step()
            if "joules" in run.train and "step" in run.evals:
                run.evals["joules"] = np.interp(run.evals["step"], run.train["step"], run.train["joules"])
            table = _columns(f, "task/references")
            if table:
                rows = zip(table["kind"], table["label"], table["value"], table["source"], strict=True)
                run.references = [Reference(str(k), str(label), float(v), str(s)) for k, label, v, s in rows]
            run.how, run.peer, run.versus = _attributes(f, "timing"), _columns(f, "peer"), _columns(f, "versus")
            for phase in f.get("timing", {}):
                samples = f["timing"][phase]
                seconds = samples["seconds"] if isinstance(samples, h5py.Group) else samples
                run.timing[phase] = {n: _plain(v) for n, v in samples.attrs.items()} | {"seconds": _column(seconds)}
            status = _attributes(f, "status")
            if status.get("state") in FINISHED:
                run.state, run.reason = status["state"], str(status.get("reason", ""))
            else:
                run.reason = (
                    f"stopped after step {run.total('step'):.0f}" if run.train else "stopped before the first report"
                )
    except (OSError, KeyError, ValueError, RuntimeError) as e:  # what h5py raises for truncated and foreign files
        run.state, run.reason = "unreadable", str(e).split("\n")[0]
    if run.evals and "metric" not in run.evals and run.metric in run.evals:
        run.evals["metric"] = run.evals[run.metric]
    return run


def load(folder: str | Path) -> list[Run]:
    """Every result file of a folder, in the order they were started. Checkpoints (*.ckpt.h5) are not results."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}; a sweep writes to results/<name of the sweep>")
    runs = [read(p) for p in sorted(folder.glob("*.h5")) if not p.name.endswith(".ckpt.h5")]
    if not runs:
        raise BadInput(f"{folder} holds no result files (*.h5)")
    return sorted(runs, key=lambda r: (r.created, r.run_id))


def mixture(runs: list[Run]) -> list[str]:
    """Why these runs must not share a figure: one line per reason, empty when they may."""
    why = []
    for what, values in {
        "devices": {r.device for r in runs},
        "code versions": {r.version for r in runs},
        "number types": {str(r.meta.get("real", "?")) for r in runs},
    }.items():
        if len(values) > 1:
            why.append(f"{len(values)} {what}: {', '.join(sorted(values))}")
    dirty = sum(bool(r.meta.get("git_dirty")) for r in runs)
    if 0 < dirty < len(runs):
        why.append(f"{dirty} of {len(runs)} runs from a tree with uncommitted changes")
    return why


def comparable(runs: list[Run], allow_mixed: bool) -> list[Run]:
    """The runs that have something to show: complete, diverged, or interrupted after a report. Says how many."""
    used = [r for r in runs if r.state in ("complete", "diverged") or (r.state == "interrupted" and r.train)]
    states = ", ".join(f"{n} {state}" for state, n in Counter(r.state for r in runs).items())
    print(f"{len(used)} of {len(runs)} runs used ({states})", file=sys.stderr)
    why = mixture(used)
    if why and not allow_mixed:
        raise BadInput(
            "these runs do not belong in one figure:\n  " + "\n  ".join(why) + "\n--allow-mixed draws them all the same"
        )
    for line in why:
        print(f"mixed: {line}", file=sys.stderr)
    if used and all(r.meta.get("git_dirty") for r in used):
        print("all from a tree with uncommitted changes: their code cannot be looked up", file=sys.stderr)
    return used
