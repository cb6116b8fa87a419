"""Runs grouped into the lines of a plot, and the intervals around them."""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from . import marks
from .presets import LOWER_IS_BETTER
from .program import text
from .results import Run

# Two-sided 95 % quantiles of Student's t for 1..30 degrees of freedom; beyond, the normal value is within 2 %.
T95 = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
]  # fmt: skip
SAME_MARK = 4  # settings of one mixer that share its colour and differ by dashes; with more each has its own
NOT_A_SETTING = ("seed", "run.")  # keys that never tell two lines apart


@dataclass
class Series:
    """Runs that differ in their seeds only."""

    label: str
    mixer: str
    task: str
    runs: list[Run]
    mark: str = ""  # what style.mark is asked for: the mixer, or the label where a mixer has many settings


@dataclass
class Score:
    """A final score with its 95 % interval: over seeds (t) when there are several, else over test examples (Wilson)."""

    value: float
    low: float
    high: float
    over: str  # "3 seeds", "2000 examples", or "" when no interval can be given


def wilson(p: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion p seen in n trials (Wilson 1927)."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % t interval; the interval is the mean itself for one value."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, mean, mean
    half = (T95[n - 2] if n <= len(T95) + 1 else 1.96) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def settings(run: Run) -> dict[str, object]:
    """Every key that makes a run what it is, its seeds left out."""
    return {k: v for k, v in run.config.items() if not k.startswith(NOT_A_SETTING)}


def group(runs: list[Run]) -> list[Series]:
    """One series per (task, mixer, settings). A label names the settings in which a series of a mixer is not like most
    of them, so that the base of an ablation bears the mixer's name alone."""

    def key(run: Run):
        return run.task_name, run.mixer, sorted((k, str(v)) for k, v in settings(run).items())

    series = [Series(members[0].mixer, members[0].mixer, members[0].task_name, members)
              for members in (list(g) for _, g in groupby(sorted(runs, key=key), key))]  # fmt: skip
    for one in series:
        others = [s for s in series if (s.task, s.mixer) == (one.task, one.mixer) and s is not one]
        mine = settings(one.runs[0])
        said = []
        for k in sorted({k for other in others for k in mine if settings(other.runs[0]).get(k) != mine[k]}):
            alike = 1 + sum(settings(other.runs[0]).get(k) == mine[k] for other in others)
            if 2 * alike <= len(others) + 1:
                said.append(f"{k.removeprefix(one.mixer + '.')}={text(mine[k])}")
        one.label = " ".join([one.mixer, *said])
        one.mark = one.label if len(others) >= SAME_MARK else one.mixer
    told_apart(series)
    return series


def told_apart(series: list[Series]) -> None:
    """Settings whose marks come from their labels: another where two would look alike."""
    taken = {marks.mark(s.mark) for s in series if s.mark == s.mixer}
    for one in series:
        for attempt in range(len(marks.FREE)) if one.mark != one.mixer else ():
            one.mark = f"{one.label}{' ' * attempt}"
            if marks.mark(one.mark) not in taken:
                break
        taken.add(marks.mark(one.mark))


def score(series: Series) -> Score | None:
    """Final score of a series, None when no run of it was evaluated."""
    finals = [row for row in (run.last_eval() for run in series.runs) if "metric" in row]
    if not finals:
        return None
    values = [float(row["metric"]) for row in finals]
    if len(values) > 1:
        mean, low, high = mean_interval(values)
        share = series.runs[0].metric == "accuracy"
        return Score(mean, *((max(low, 0.0), min(high, 1.0)) if share else (low, high)), f"{len(values)} seeds")
    examples = float(finals[0].get("examples", 0))
    if examples > 0 and series.runs[0].metric == "accuracy":
        return Score(values[0], *wilson(values[0], examples), f"{examples:.0f} examples")
    return Score(values[0], values[0], values[0], "")


def better(run: Run) -> int:
    """1 where the higher score is the better one, -1 for errors and bits."""
    return -1 if run.metric in LOWER_IS_BETTER else 1


def worse_end(s: Score, run: Run) -> float:
    return s.low if better(run) > 0 else s.high


def level(value: float, run: Run) -> str:
    """Best step of the task's ladder that a score reaches, in words."""
    sign = better(run)
    kinds = ("chance", "floor", "ladder", "ceiling")
    steps = sorted((r for r in run.references if r.kind in kinds), key=lambda r: sign * r.value)
    reached = [r for r in steps if sign * value >= sign * r.value]
    if not steps:
        return ""
    return reached[-1].label if reached else f"{'below' if sign > 0 else 'above'} {steps[0].label}"


def median(values) -> float:
    kept = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.median(kept)) if kept else float("nan")


def band(
    curves: list[tuple[np.ndarray, np.ndarray]], points: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, mean, low, high over several (x, y) curves, on the range they share; a single curve as it is."""
    if len(curves) == 1:
        x, y = curves[0]
        return x, y, y, y
    lo, hi = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    x = np.linspace(lo, hi, points)
    table = np.array([np.interp(x, cx, cy) for cx, cy in curves])
    return x, table.mean(axis=0), table.min(axis=0), table.max(axis=0)
