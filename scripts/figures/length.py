"""Speed and memory against length.

Tokens per second of one mixer, by passes, or milliseconds of a whole model, forward and training step (left), and the
most memory allocated at once (right), a row of panels per device; medians, the band from the lower to the upper
quartile. Crosses: where a mixer overtakes attention, or is overtaken (without attention: the fastest at the shortest
length), between the two lengths that were timed. Below: the exponent of the time of a position in T over the last
factor of four, and why points are missing.
"""

import numpy as np

from ssmb import cases, curves, style
from ssmb.words import short

ORDER = 32
KINDS = ("bench",)
MIB = 1024.0**2
# What is drawn of a case, at a percentile of its samples
SHOWN = {
    "mixer": ("tokens per second", lambda c, q=50: c.tokens / np.percentile(c.seconds, q)),
    "step": ("whole model (ms)", lambda c, q=50: 1e3 * np.percentile(c.seconds, q)),
}


def line(ax, mine, mark, width, values, low=None, high=None):
    colour, marker, dash = mark
    x = [c.T for c in mine]
    ax.plot(x, values, dash, marker=marker, color=colour, label=mine[0].label, linewidth=width, markersize=3 * width)
    if low:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def cross(ax, by_label, height):
    """Marks where the others cross attention, or whoever is fastest at first; names the lengths. height: what is drawn
    of a case."""
    first = min(c.T for mine in by_label.values() for c in mine)
    start = {v: mine[0].rate for v, mine in by_label.items() if first == mine[0].T}
    base = "attention" if "attention" in by_label else max(start, key=start.get)
    said = []
    for label, mine in by_label.items():
        common = sorted({c.T for c in mine} & {c.T for c in by_label[base]})
        rates = [np.array([height(c) for c in who if c.T in common]) for who in (mine, by_label[base])]
        for x, y in cases.crossings(np.array(common, float), *rates) if label != base else ():
            ax.plot([x], [y], "x", ms=9, mew=1.8, color=style.INK, zorder=5)
            said.append((x, label))
    lengths = ", ".join(f"{label} {x:.0f}" for x, label in sorted(said))
    return f"crossings with {base} at T of about: {lengths}." if said else f"no mixer crosses {base}."


def slopes(by_label):
    """d log(time of a position) / d log T from a quarter of a mixer's longest length, or less, to that."""
    said = []
    for label, mine in by_label.items():
        last = mine[-1]
        earlier = [c for c in mine if 4 * c.T <= last.T]
        if not earlier:
            continue
        first = earlier[-1]
        said.append((np.log(first.rate / last.rate) / np.log(last.T / first.T), label, last.T))
    if not said:
        return None
    longest = max(t for _, _, t in said)
    words = [f"{label} {s:.2f}" + ("" if t == longest else f" (to {name(t)})") for s, label, t in sorted(said)]
    return f"exponents of the time of a position at T of {name(longest)}: {', '.join(words)}."


def name(length):
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)


def gone(lost, timed, lengths):
    """One text per reason: which points it took away; the lengths where these are not all."""
    by_reason, out = {}, []
    for m in lost:
        by_reason.setdefault(m.reason, {}).setdefault(m.variant, []).append(m)
    for why, who in by_reason.items():
        said = []
        for variant, mine in sorted(who.items()):
            every = [*(m for m in lost if m.variant == variant), *(c for c in timed if c.variant == variant)]
            part = [{getattr(m, axis) for m in mine} for axis in ("view", "N", "T")]
            whole = [{getattr(m, axis) for m in every} for axis in ("view", "N")] + [set(lengths)]
            view, n, at = (", ".join(map(str, sorted(p))) if p != w else "" for p, w in zip(part, whole, strict=True))
            view = "" if why.startswith("view ") else view
            at = ", ".join(name(t) for t in sorted(part[2])) if at else ""
            said.append(" ".join(filter(None, [variant, view, n and f"N {n}", at and f"at {at}"])))
        out.append(f"No point for {'; '.join(said)}: {why}.")
    return sorted(out)


def dress(ax, label, first, lengths):
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths, map(name, lengths))
    ax.xaxis.set_minor_locator(style.NullLocator())
    style.decades(ax.yaxis)
    ax.yaxis.set_major_formatter(lambda v, _: short(v) if "tokens" in label else f"{v:,g}")
    ax.set_xlabel("length T")
    ax.set_ylabel(label)
    ax.set_title(first)


def figure(runs):
    timed, lost = cases.cases(runs), cases.missing(runs)
    devices = sorted({c.device for c in timed})
    found = {(d, mode): mine for d in devices
             for mode, mine in cases.panels([c for c in timed if c.device == d], "T").items()}  # fmt: skip
    if not found:
        return None
    crowded = len({c.label for mine in found.values() for c in mine}) > 8
    canvas, notes = style.figure(7.6, 0.8 + (4.4 if crowded else 2.9) * len(found)), []
    for axes, ((device, mode), mine) in zip(canvas.subplots(len(found), 2, squeeze=False), found.items(), strict=True):
        by_label = {v: [c for c in mine if c.label == v] for v in sorted({c.label for c in mine})}
        marks = cases.line_marks(mine)
        widths = np.linspace(2.6, 1.3, len(by_label))  # later lines are thinner: two that coincide are both seen
        what, height = SHOWN["step" if mine[0].level == "step" else "mixer"]
        for (label, each), width in zip(by_label.items(), widths, strict=True):
            quartiles = [[height(c, q) for c in each] for q in (25, 75)]
            line(axes[0], each, marks[label], width, [height(c) for c in each], *quartiles)
            line(axes[1], each, marks[label], width, [c.memory / MIB for c in each])
        shape, lengths = mine[0], sorted({c.T for c in mine})
        rows = f"B {shape.B}" if len({c.B for c in mine}) == 1 else f"B T {shape.tokens:.0f}"
        where = f"{device}: " if len(devices) > 1 else ""
        dress(axes[0], what, f"{where}{cases.MODES[mode]}, {rows}, D {shape.D}, threads {shape.threads}", lengths)
        dress(axes[1], "memory (MiB)", "", lengths)
        notes.append(f"{where}{cases.MODES[mode].capitalize()}: {cross(axes[0], by_label, height)}")
        if said := slopes(by_label):
            notes.append(f"{where}{cases.MODES[mode].capitalize()}: {said}")
        here = [[c for c in every if (c.device, c.mode) == (device, mode)] for every in (lost, timed)]
        notes += [where + text for text in gone(*here, lengths)]
    curves.legend(canvas)
    curves.footnote(canvas, notes)
    return canvas
