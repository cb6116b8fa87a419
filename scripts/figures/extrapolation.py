"""Accuracy at lengths that were not trained on.

Checkpoints scored again by `ssmbench eval <run-id>.ckpt.h5 --induction.length L --out <folder>/<run-id>.L.h5`, mean and
range over seeds. Dashed: the training length. Grey: published results, where the task knows them.
"""

import numpy as np

from ssmb import curves, style
from ssmb.series import group

ORDER = 16
KINDS = ("train", "eval")


def points(runs):
    """By task: (label, mark) -> length -> scores; label -> length -> published value; the lengths trained on. Sources
    of what is published."""
    scores, published, trained, sources = {}, {}, {}, {}
    names = {r.run_id: (s.label, s.mark) for s in group([r for r in runs if r.kind == "train"]) for r in s.runs}
    for run in runs:
        length = run.config.get(f"{run.task_name}.length")
        row = run.last_eval()
        if length is None or "metric" not in row:
            continue
        if run.kind == "train":
            trained.setdefault(run.task_name, set()).add(int(length))
        name = names.get(run.run_id, (run.mixer, run.mixer))
        by_length = scores.setdefault(run.task_name, {}).setdefault(name, {}).setdefault(int(length), {})
        by_length[run.run_id] = float(row["metric"])
        for r in run.references:
            if r.kind == "published":
                published.setdefault(run.task_name, {}).setdefault(r.label, {})[int(length)] = r.value
                sources[r.source] = None
    return scores, published, trained, list(sources)


def figure(runs):
    scores, published, trained, sources = points(runs)
    tasks = [t for t, named in scores.items() if any(len(lengths) > 1 for lengths in named.values())]
    if not tasks:
        return None
    canvas = style.figure(7.6, 0.7 + 3.6 * len(tasks))
    for ax, task in zip(canvas.subplots(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True):
        known = {label: values for label, values in published.get(task, {}).items() if len(values) > 1}
        ends = style.spread([100 * values[max(values)] for values in known.values()], 4.2, 0, 100)
        for (label, values), end in zip(known.items(), ends, strict=True):
            x = sorted(values)
            ax.plot(x, [100 * values[t] for t in x], ":", color=style.FAINT, linewidth=1)
            ax.annotate(label, (x[-1], end), xytext=(6, 0), textcoords="offset points", va="center", fontsize=7.5,
                        color=style.FAINT, annotation_clip=False)  # fmt: skip
        for (label, mark), lengths in sorted(scores[task].items()):
            x, colour, marker = sorted(lengths), *style.mark(mark)
            values = [100 * np.array(list(lengths[t].values())) for t in x]
            ax.plot(x, [v.mean() for v in values], marker=marker, color=colour, label=label)
            if max(map(len, values)) > 1:
                ax.fill_between(x, [v.min() for v in values], [v.max() for v in values], color=colour, alpha=0.2, lw=0)
        for length in sorted(trained.get(task, ())):
            ax.axvline(length, color=style.FAINT, linestyle="--", linewidth=1)
        ax.set_xscale("log", base=2)
        every = sorted({t for lengths in scores[task].values() for t in lengths})
        ax.set_xticks(every, [f"{t // 1024}K" if t % 1024 == 0 and len(every) > 8 else t for t in every])
        ax.minorticks_off()
        ax.set_ylim(-3, 103)
        ax.set_xlabel(f"length of the test sequences ({task}); dashed: trained on")
        ax.set_ylabel("accuracy (%)")
        ax.set_title(task if len(tasks) > 1 else "")
    curves.legend(canvas)
    curves.footnote(canvas, [f"Dotted: published ({'; '.join(sources)})."] if sources else [])
    return canvas
