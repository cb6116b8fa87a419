"""What a change does to the score: differences between settings with bootstrap intervals, paired by seed.

Runs of one seed see the same data in the same order, so the difference of two settings at one seed is free of what
the data do; those differences are resampled when every seed of one side has its partner. Without partners the two
sides are resampled apart. The deviation is that over seeds, pooled over both sides; a difference of less than two of
them is one that other seeds may well undo.
"""

from dataclasses import dataclass

import numpy as np

from .program import text
from .results import Run
from .series import Series, settings

DRAWS = 10_000  # bootstrap samples; the same seed every time, so that a table can be made again

MOST = 60  # settings of one task; a search over more is not an ablation


@dataclass
class Effect:
    """A setting against a base. All in the units of the metric; NaN where there are too few seeds to say."""

    series: Series
    change: str  # the keys that differ from the base, "" for the base itself
    seeds: int
    mean: float
    deviation: float  # over seeds
    low: float  # 95 % bootstrap interval of the mean
    high: float
    difference: float = 0.0
    difference_low: float = float("nan")
    difference_high: float = float("nan")
    paired: bool = False
    pooled: float = float("nan")  # deviation over seeds, of both sides

    @property
    def mark(self) -> str:
        """Why not to trust the difference: "one seed", "under 2 sd" or "" when there is no such reason."""
        if not self.change:
            return ""
        if self.pooled != self.pooled:
            return "one seed"
        return "under 2 sd" if abs(self.difference) < 2 * self.pooled else ""


def scores(series: Series) -> dict[str, float]:
    """Final score by seed."""
    rows = {run.seed: run.last_eval() for run in series.runs}
    return {seed: float(row["metric"]) for seed, row in rows.items() if "metric" in row}


def bootstrap(*samples: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean of the first sample, less that of the second when there is one."""
    if min(map(len, samples)) < 2:
        return float("nan"), float("nan")
    draw = np.random.default_rng(1)
    means = [x[draw.integers(0, len(x), (DRAWS, len(x)))].mean(axis=1) for x in samples]
    low, high = np.percentile(means[0] - means[1] if len(means) > 1 else means[0], [2.5, 97.5])
    return float(low), float(high)


def deviation(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def effect(one: Series, base: Series | None, change: str) -> Effect | None:
    """None when `one`, or the base, was never evaluated."""
    mine = scores(one)
    values = np.array(list(mine.values()))
    if not len(values):
        return None
    out = Effect(one, change, len(values), float(values.mean()), deviation(values), *bootstrap(values))
    if base is None:
        return out
    other = scores(base)
    theirs = np.array(list(other.values()))
    if not len(theirs):
        return None
    out.pooled = float(np.sqrt((deviation(values) ** 2 + deviation(theirs) ** 2) / 2))
    out.paired = mine.keys() <= other.keys() or other.keys() <= mine.keys()
    if out.paired:
        differences = np.array([mine[seed] - other[seed] for seed in mine.keys() & other.keys()])
        out.difference = float(differences.mean())
        out.difference_low, out.difference_high = bootstrap(np.sort(differences))
    else:
        out.difference = float(values.mean() - theirs.mean())
        out.difference_low, out.difference_high = bootstrap(values, theirs)
    return out


def changed(one: Run, base: Run) -> dict[str, tuple[object, object]]:
    """key -> (value here, value of the base) of every setting in which two runs differ."""
    mine, theirs = settings(one), settings(base)
    keys = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    return {k: (mine.get(k), theirs.get(k)) for k in keys}


def base_of(series: list[Series]) -> Series:
    """The setting that all others are nearest to, counted in keys; of several the one that was run first."""
    far = {id(s): sum(len(changed(s.runs[0], other.runs[0])) for other in series) for s in series}
    return min(series, key=lambda s: (far[id(s)], min(r.created for r in s.runs)))


def say(one: Series, base: Series) -> str:
    """The change in words: another mixer by its name, else the keys with their values."""
    if one.mixer != base.mixer:
        return one.label
    differ = changed(one.runs[0], base.runs[0])
    return ", ".join(f"{k.removeprefix('model.')} = {text(v)}" for k, (v, _) in differ.items() if v is not None)


def ablation(series: list[Series]) -> tuple[Series | None, list[Effect]]:
    """The base of the settings of one task, and the effect of every other on its score, best first."""
    scored = [s for s in series if scores(s)]
    if not 2 <= len(scored) <= MOST:
        return None, []
    base = base_of(scored)
    found = [effect(s, base, say(s, base)) for s in scored if s is not base]
    return base, sorted((e for e in found if e), key=lambda e: -e.difference)
