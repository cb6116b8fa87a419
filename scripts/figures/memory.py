"""Memory, planned and measured.

Bars: the plan printed before the run, by class. Diamond: the most that was allocated at once, counted in the process;
it should sit at the end of its bar. Upright stroke: peak memory of the whole process as the operating system sees it,
libraries and data included.
"""

import numpy as np

from ssmb import bars, style
from ssmb.series import group, median

ORDER = 40
MIB = 1024.0**2
SHADES = ("#3d4a5c", "#5f6f85", "#8595aa", "#adb9c9", "#d0d8e2")
CLASSES = {
    "activations": ("activations",),
    "activation gradients": ("activation_gradients",),
    "scratch": ("scratch",),
    "evaluation": ("evaluation",),
    "parameters and optimiser": ("params", "grads", "moments", "optimizer", "batch"),
}


def planned(run, classes):
    """Bytes of some classes of the plan; the last group takes in every class that no group names."""
    plan = run.planned_bytes()
    named = {c for group_ in CLASSES.values() for c in group_}
    rest = sum(v for k, v in plan.items() if k not in named) if classes is CLASSES["parameters and optimiser"] else 0
    return sum(plan.get(c, 0) for c in classes) + rest


def figure(runs):
    series = [s for s in group(runs) if s.runs[0].planned_bytes()]
    if not series:
        return None
    canvas = bars.canvas_for(series)
    canvas.set_figheight(canvas.get_figheight() + 0.5)
    ax = canvas.subplots()
    y = bars.rows(ax, series)
    left = [0.0] * len(series)
    for (name, classes), shade in zip(CLASSES.items(), SHADES, strict=True):
        width = [planned(s.runs[0], classes) / MIB for s in series]
        ax.barh(
            y,
            width,
            left=left,
            height=0.62,
            color=shade,
            edgecolor=style.PAPER,
            linewidth=0.5,
            label=name,
        )
        left = [a + b for a, b in zip(left, width, strict=True)]
    for what, key, marker in (("measured: allocated", "high_water", "D"), ("measured: process", "process_peak", "|")):
        values = [median(run.measured_bytes().get(key, float("nan")) for run in s.runs) / MIB for s in series]
        if not np.isfinite(values).any():
            continue
        mew = 2.2 if marker == "|" else 1.2
        ax.plot(
            values,
            y,
            marker,
            ms=13 if marker == "|" else 6,
            mfc=style.PAPER,
            mec=style.VERMILLION,
            mew=mew,
            label=what,
            clip_on=False,
        )
    ax.set_xlim(left=0)
    ax.set_xlabel("memory (MiB)")
    canvas.legend(loc="outside upper left", ncols=4, fontsize=8.5, handlelength=1.2, columnspacing=1.2)
    return canvas
