"""Accuracy by part of the test set.

Final score on each slice of the test examples (for ListOps: by root operator, by depth, by length). Columns without
examples are left out.
"""

import numpy as np

from ssmb import bars, style
from ssmb.series import group

ORDER = 15


def figure(runs):
    series = [s for s in group(runs) if s.runs[-1].last_slices()]
    if not series:
        return None
    names = [n for n in dict.fromkeys(n for s in series for n in s.runs[-1].last_slices())]
    each = [[[r.last_slices()[n] for r in s.runs if n in r.last_slices()] for n in names] for s in series]
    table = 100 * np.array([[np.mean(values) if values else np.nan for values in row] for row in each])
    canvas = style.figure(max(7.6, 1.6 + 0.42 * len(names)), 1.5 + 0.42 * len(series))
    ax = canvas.subplots()
    ax.imshow(table, aspect="auto", cmap="cividis", vmin=0, vmax=100)
    bars.rows(ax, series)
    ax.grid(False)
    ax.set_ylim(len(series) - 0.5, -0.5)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            ax.text(
                j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value < 55 else "black"
            )
    ax.set_xticks(range(len(names)), [n.split("=", 1)[-1] for n in names], fontsize=8)
    ax.tick_params(axis="x", length=0)
    axes = [n.split("=", 1)[0] for n in names]
    starts = [i for i, a in enumerate(axes) if i == 0 or axes[i - 1] != a]
    for start in starts:
        end = next((s for s in starts if s > start), len(names))
        ax.annotate(
            axes[start].replace("_", " "),
            ((start + end - 1) / 2, -0.62),
            ha="center",
            va="bottom",
            annotation_clip=False,
        )
        if start:
            ax.axvline(start - 0.5, color=style.PAPER, linewidth=3)
    ax.set_xlabel("accuracy (%) by slice")
    return canvas
