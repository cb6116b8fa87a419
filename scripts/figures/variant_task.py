"""Variant by task.

Final test score of every variant on every task, with the 95 % interval: over seeds where there are several, else over
test examples.
"""

from ssmb import style
from ssmb.series import group, score

ORDER = 5


def figure(runs):
    series = [s for s in group(runs) if score(s)]
    if not series:
        return None
    series.sort(key=lambda s: -score(s).value)
    labels, tasks = list(dict.fromkeys(s.label for s in series)), sorted({s.task for s in series})
    canvas = style.figure(max(4.6, 2.2 + 1.7 * len(tasks)), 0.7 + 0.36 * len(labels))
    ax = canvas.subplots()
    ax.set_axis_off()
    ax.set_xlim(-1, len(tasks) - 0.5)
    ax.set_ylim(len(labels) - 0.4, -1.2)
    for j, task in enumerate(tasks):
        ax.text(j, -0.9, task, ha="center", va="center", fontweight="bold")
    best = {t: max((s for s in series if s.task == t), key=lambda s: score(s).value) for t in tasks}
    for i, label in enumerate(labels):
        ax.axhline(i - 0.5, color=style.GRID, linewidth=0.8)
        colour, marker = style.mark(next(s.mark for s in series if s.label == label))
        ax.plot([-0.97], [i], marker, color=colour, ms=7)
        ax.text(-0.88, i, label, ha="left", va="center")
        for j, task in enumerate(tasks):
            one = next((s for s in series if s.label == label and s.task == task), None)
            if one is None:
                ax.text(j, i, "–", ha="center", va="center", color=style.FAINT)
                continue
            s, percent = score(one), 100 if one.runs[0].metric == "accuracy" else 1
            weight = "bold" if one is best[task] else "normal"
            ax.text(j, i, f"{s.value * percent:.1f}", ha="right", va="center", fontweight=weight)
            half = (s.high - s.low) / 2 * percent
            ax.text(j + 0.03, i, f" ±{half:.1f}" if half else "", ha="left", va="center", fontsize=8, color=style.FAINT)
    return canvas
