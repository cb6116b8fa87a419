"""Scaling with threads.

Speed over that on the fewest threads, from `bench --threads 1,2,...` or files that differ in run.threads: same shapes,
one machine. Grey: as many times faster as there are threads.
"""

import numpy as np

from ssmb import cases, curves, style

ORDER = 33
KINDS = ("bench",)


def figure(runs):
    timed = cases.cases(runs)
    most = max(
        {c.device for c in timed}, key=lambda d: (len({c.threads for c in timed if c.device == d}), d), default=""
    )
    found = cases.panels([c for c in timed if c.device == most], "threads")
    if not found:
        return None
    canvas = style.figure(7.6, 3.8)
    for ax, (mode, mine) in zip(canvas.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        threads = sorted({c.threads for c in mine})
        ax.plot(threads, np.array(threads) / threads[0], color=style.FAINT, linewidth=1)
        for label, (colour, marker, dash) in cases.line_marks(mine).items():
            each = {c.threads: c.rate for c in mine if c.label == label}
            if len(each) < 2 or threads[0] not in each:
                continue
            speed = np.array(list(each.values())) / each[min(each)]
            ax.plot(list(each), speed, dash, marker=marker, color=colour, label=label)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set_xticks(threads, threads)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.minorticks_off()
        ax.set_xlabel("threads")
        ax.set_ylabel(f"speed, over that on {threads[0]}" if ax is ax.figure.axes[0] else "")
        ax.set_title(f"{cases.MODES[mode]}, B {mine[0].B}, T {mine[0].T}, D {mine[0].D}")
    curves.legend(canvas)
    return canvas
