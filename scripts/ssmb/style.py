"""The look of figures: ink, axes, ticks. The marks of variants are in marks.py, which needs no matplotlib."""

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from .marks import VERMILLION as VERMILLION
from .marks import mark as mark

# The report replaces these four by the colours of its page, light or dark.
INK, FAINT, GRID, PAPER = "#1b1b1f", "#6b6b75", "#d9d9e0", "#fdfdfe"


def figure(width: float = 7.6, height: float = 4.4) -> Figure:
    """An empty figure in the project's look; sizes in inches. Not pyplot: nothing global is kept."""
    mpl.rcParams.update({
        "font.size": 9.5, "axes.titlesize": 10.5, "axes.titlelocation": "left", "svg.hashsalt": "ssmbench",
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
        "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 1.6, "lines.markersize": 4.5,
    })  # fmt: skip
    return Figure(figsize=(width, height), layout="constrained")


def decades(axis) -> None:
    """Ticks at 1, 2 and 5 of every power of ten, for logarithmic axes of few decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())


def spread(positions: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved as little as possible so that neighbours are at least gap apart and all lie in [low, high]."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    if order and gap * (len(order) - 1) > high - low:
        gap = (high - low) / max(1, len(order) - 1)
    out = [positions[i] for i in order]
    for _ in range(200):  # neighbours that are too close share the push; converges for the few labels of a figure
        moved = False
        for k in range(len(out) - 1):
            lack = gap - (out[k + 1] - out[k])
            if lack > 1e-9:
                out[k], out[k + 1], moved = out[k] - lack / 2, out[k + 1] + lack / 2, True
        if out and out[0] < low:
            out = [max(v, low + k * gap) for k, v in enumerate(out)]
        if out and out[-1] > high:
            out = [min(v, high - (len(out) - 1 - k) * gap) for k, v in enumerate(out)]
        if not moved:
            break
    placed = [0.0] * len(positions)
    for k, i in enumerate(order):
        placed[i] = out[k]
    return placed
