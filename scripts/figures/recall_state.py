"""Recall against state bytes.

Accuracy on multi-query associative recall (MQAR) against the bytes that a model carries from token to token for one
sequence; mean and range over seeds. Filled: a state of constant size. Hollow: one that grows with the length (keys and
values of attention, long convolutions), taken at the task's length.
"""

import numpy as np

from ssmb import curves, style

ORDER = 15
Points = dict[str, dict[float, list[float]]]  # mixer -> state bytes -> accuracies in percent


def binary(size):
    """1536 -> 1.5 KiB"""
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.3g} B"


def setting(run):
    return tuple(int(run.config.get(f"mqar.{k}", 0)) for k in ("length", "pairs"))


def gather(runs):
    """By (length, pairs): points; mixers whose state grows; whoever has no place in the figure, with the reason."""
    found, growing, out = {}, set(), {}
    for run in runs:
        if run.task_name != "mqar" or "metric" not in (row := run.last_eval()):
            continue
        state, growth = float(run.model.get("state_bytes", -1)), str(run.model.get("state_growth", "not recorded"))
        if state < 0:
            out[run.mixer] = growth
            continue
        if growth != "constant":
            growing.add(run.mixer)
        panel: Points = found.setdefault(setting(run), {})
        panel.setdefault(run.mixer, {}).setdefault(state, []).append(100 * float(row["metric"]))
    return dict(sorted(found.items())), growing, out


def levels(runs, length, pairs):
    """What is reached without recall, at this setting."""
    mine = [r for run in runs if setting(run) == (length, pairs) for r in run.references]
    return list({r.label: r for r in mine if r.kind in ("chance", "floor")}.values())


def figure(runs):
    found, growing, out = gather(runs)
    missing = "; ".join(f"{mixer}: {why}" for mixer, why in sorted(out.items()))
    if not found:
        return f"no run has a state to show: {missing}" if missing else None
    canvas, sources = style.figure(7.6, 0.6 + 3.4 * len(found)), []
    panels = canvas.subplots(len(found), 1, squeeze=False)[:, 0]
    for ax, ((length, pairs), panel) in zip(panels, found.items(), strict=True):
        for mixer, by_state in sorted(panel.items()):
            colour, marker = style.mark(mixer)
            x, scores = sorted(by_state), [np.array(by_state[s]) for s in sorted(by_state)]
            face = style.PAPER if mixer in growing else colour
            ax.plot(x, [s.mean() for s in scores], marker=marker, color=colour, mfc=face, label=mixer)
            if max(map(len, scores)) > 1:
                ax.fill_between(x, [s.min() for s in scores], [s.max() for s in scores], color=colour, alpha=0.2, lw=0)
        mine = levels(runs, length, pairs)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda v, _: binary(v))
        ax.set_ylim(-3, 103)
        ax.set_xlabel("state of one sequence")
        ax.set_ylabel("accuracy (%)")
        ax.set_title(f"length {length}, {pairs} pairs")
        sources += [r.source for r in mine if r.source and r.source not in sources]
        curves.reference_lines(ax, mine, sources)
    curves.legend(canvas)
    notes = ["; ".join(f"[{i + 1}]\u00a0{s}" for i, s in enumerate(sources)) + "."] if sources else []
    notes += ["Hollow: the state grows with the length; here at that of the task."] if growing else []
    curves.footnote(canvas, notes + ([f"Without a place here: {missing}."] if missing else []))
    return canvas
