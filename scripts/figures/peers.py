"""Training step against plain PyTorch.

Same model, batch, machine and threads, the two sides measured in turn (scripts/peers/compare). Coloured: ours, grey:
PyTorch; median over all steps, and peak memory of the process. The factor is PyTorch / ours: above 1, ours is faster
or smaller.
"""

import numpy as np

from ssmb import bars, style
from ssmb.series import group, median

ORDER = 60
MIB = 1024.0**2


def panel(ax, series, ours, theirs, label):
    """Two bars per series, ours above PyTorch's, the ratio at the end of the longer one."""
    y = bars.rows(ax, series)
    mine, other = ([median(map(f, s.runs)) for s in series] for f in (ours, theirs))
    ax.barh(y - 0.19, mine, height=0.36, color=[style.mark(s.mark)[0] for s in series])
    ax.barh(y + 0.19, other, height=0.36, color=style.FAINT)
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        ax.annotate(
            f"× {b / a:.2f}" if b < 10 * a else f"× {b / a:.0f}",
            (max(a, b), i),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_xlim(0, max(mine + other) * 1.2)
    ax.set_xlabel(label)
    ax.locator_params(axis="x", nbins=5)


def figure(runs):
    series = group([r for r in runs if "peer_train_step" in r.timing])
    if not series:
        return None
    canvas = style.figure(7.6, 1.0 + 0.55 * len(series))
    left, right = canvas.subplots(1, 2)
    seconds = [lambda r, n=n: 1e3 * np.median(r.timing[n]["seconds"]) for n in ("train_step", "peer_train_step")]
    memory = [lambda r, n=n: r.memory[n] / MIB for n in ("rss", "peer_rss")]
    panel(left, series, *seconds, "one training step (ms)")
    panel(right, series, *memory, "peak memory of the process (MiB)")
    right.set_yticklabels([])
    return canvas
