"""Horizontal bars, one per series: the value at its end, a dot for every run when there are several seeds."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .results import Run
from .series import Series, group, median
from .words import short


def names(series: list[Series]) -> list[str]:
    """Labels that also name the task where the runs have more than one."""
    tasks = {s.task for s in series}
    return [f"{s.label} · {s.task}" if len(tasks) > 1 else s.label for s in series]


def rows(ax: Axes, series: list[Series]) -> np.ndarray:
    """Prepares ax for one row per series, first one on top; returns their y positions."""
    y = np.arange(len(series))
    ax.set_yticks(y, names(series))
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_ylim(len(series) - 0.4, -0.6)
    return y


def canvas_for(series: list[Series]) -> Figure:
    return style.figure(7.6, 0.9 + 0.42 * len(series))


def bars(runs: list[Run], value: Callable[[Run], float], label: str, unit: str = "") -> Figure | None:
    """Median of value(run) over the runs of each series, largest on top. None when no run has a value."""
    series = [s for s in group(runs) if np.isfinite(median(map(value, s.runs)))]
    if not series:
        return None
    series.sort(key=lambda s: -median(map(value, s.runs)))
    canvas = canvas_for(series)
    ax = canvas.subplots()
    heights = [median(map(value, s.runs)) for s in series]
    y = rows(ax, series)
    ax.barh(y, heights, height=0.62, color=[style.mark(s.mark)[0] for s in series])
    for i, one in enumerate(series):
        each = [v for v in map(value, one.runs) if np.isfinite(v)]
        if len(each) > 1:
            ax.plot(each, [i] * len(each), "o", ms=4, mfc=style.PAPER, mec=style.INK, mew=0.8)
        ax.annotate(
            short(heights[i], unit),
            (max([heights[i], *each]), i),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_xlim(0, max(heights) * 1.14)
    ax.set_xlabel(label)
    ax.xaxis.set_major_formatter(lambda v, _: short(v) if v else "0")
    return canvas
