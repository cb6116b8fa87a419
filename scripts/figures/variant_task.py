"""Variant by task.

Final test score of every variant on every task, with the 95 % interval: over seeds where there are several, else over
test examples. Small below a score: what was published for that mixer. Last lines: ceiling, floor (what a shortcut or a
guess reaches) and the best published score of the task, where it states them.
"""

from ssmb import style
from ssmb.series import group, score

ORDER = 5
SAID = {"attention": ("transformer",), "linear_attention": ("linear attention",), "gru": ("gru-dt",)}  # names in papers


def published(series):
    """The score published for this mixer on this task, at this width where papers state widths; None without one."""
    run = series.runs[0]
    names = {run.mixer, *SAID.get(run.mixer, ())}
    names |= {f"{name}, width {run.config.get('model.d_model')}" for name in names}
    found = [r.value for r in run.references if r.kind == "published" and r.label.lower() in names]
    return found[0] if found else None


def bounds(run):
    """Rows below the variants: (what, value), the best of each kind that the task states; the floor may be a guess."""
    best = max if run.metric == "accuracy" else min
    values = {
        kind: [r.value for r in run.references if r.kind == kind]
        for kind in ("ceiling", "floor", "chance", "published")
    }
    floor = values["floor"] or values["chance"]
    said = {"ceiling": values["ceiling"], "floor": floor, "published": values["published"]}
    return {what: best(found) for what, found in said.items() if found}


def shown(value, run):
    """Accuracies in percent, errors to three digits."""
    return f"{100 * value:.1f}" if run.metric == "accuracy" else f"{value:.3g}"


def figure(runs):
    series = [s for s in group(runs) if score(s)]
    if not series:
        return None
    series.sort(key=lambda s: score(s).value * (-1 if s.runs[0].metric == "accuracy" else 1))
    labels, tasks = list(dict.fromkeys(s.label for s in series)), sorted({s.task for s in series})
    stated = {t: bounds(next(s for s in series if s.task == t).runs[0]) for t in tasks}
    rows = [what for what in ("ceiling", "floor", "published") if any(what in found for found in stated.values())]
    room = max(1.0, 0.5 + 0.045 * max(map(len, labels)))  # of the labels, in columns
    canvas = style.figure(max(4.6, 0.5 + 1.7 * (len(tasks) + room)), 0.7 + 0.36 * (len(labels) + len(rows)))
    ax = canvas.subplots()
    ax.set_axis_off()
    ax.set_xlim(-room, len(tasks) - 0.5)
    ax.set_ylim(len(labels) + len(rows) - 0.4, -1.3)
    for j, task in enumerate(tasks):
        metric = next(s for s in series if s.task == task).runs[0].metric
        ax.text(j, -1.0, task, ha="center", va="center", fontweight="bold")
        ax.text(j, -0.68, "accuracy, %" if metric == "accuracy" else metric, ha="center", va="center", fontsize=7.5,
                color=style.FAINT)  # fmt: skip
    best = {}
    for t in tasks:
        better = max if next(s for s in series if s.task == t).runs[0].metric == "accuracy" else min
        best[t] = better((s for s in series if s.task == t), key=lambda s: score(s).value)
    for i, label in enumerate(labels):
        ax.axhline(i - 0.5, color=style.GRID, linewidth=0.8)
        colour, marker = style.mark(next(s.mark for s in series if s.label == label))
        ax.plot([0.03 - room], [i], marker, color=colour, ms=7)
        ax.text(0.12 - room, i, label, ha="left", va="center")
        for j, task in enumerate(tasks):
            one = next((s for s in series if s.label == label and s.task == task), None)
            if one is None:
                ax.text(j, i, "–", ha="center", va="center", color=style.FAINT)
                continue
            s, run = score(one), one.runs[0]
            weight = "bold" if one is best[task] else "normal"
            ax.text(j, i, shown(s.value, run), ha="right", va="center", fontweight=weight)
            half = (s.high - s.low) / 2
            ax.text(
                j + 0.03,
                i,
                f" ±{shown(half, run)}" if half else "",
                ha="left",
                va="center",
                fontsize=8,
                color=style.FAINT,
            )
            if (paper := published(one)) is not None:
                text = f"published {shown(paper, run)}"
                ax.text(j, i + 0.33, text, ha="center", va="center", fontsize=6, color=style.FAINT)
    for i, what in enumerate(rows, len(labels)):
        ax.axhline(i - 0.5, color=style.GRID, linewidth=0.8)
        ax.text(
            0.12 - room, i, {"published": "best published"}.get(what, what), ha="left", va="center", color=style.FAINT
        )
        for j, task in enumerate(tasks):
            value = stated[task].get(what)
            text = "–" if value is None else shown(value, next(s for s in series if s.task == task).runs[0])
            ax.text(j, i, text, ha="center" if value is None else "right", va="center", color=style.FAINT)
    return canvas
