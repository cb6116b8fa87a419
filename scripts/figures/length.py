"""Speed and memory against length.

Tokens per second (left) and the most memory allocated at once (right) of one mixer, by passes; medians, the band from
the lower to the upper quartile. Crosses: where a mixer overtakes attention, or is overtaken (without attention: the
fastest at the shortest length), between the two lengths that were timed.
"""

import numpy as np

from ssmb import cases, curves, style
from ssmb.words import short

ORDER = 32
KINDS = ("bench",)
MIB = 1024.0**2


def line(ax, mine, width, values, low=None, high=None):
    colour, marker = style.mark(mine[0].variant)
    x = [c.T for c in mine]
    ax.plot(x, values, marker=marker, color=colour, label=mine[0].variant, linewidth=width, markersize=3 * width)
    if low:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def cross(ax, by_variant):
    """Marks where the others cross attention, or whoever is fastest at first; names the lengths."""
    first = min(c.T for mine in by_variant.values() for c in mine)
    start = {v: mine[0].rate for v, mine in by_variant.items() if first == mine[0].T}
    base = "attention" if "attention" in by_variant else max(start, key=start.get)
    said = []
    for variant, mine in by_variant.items():
        common = sorted({c.T for c in mine} & {c.T for c in by_variant[base]})
        rates = [np.array([c.rate for c in who if c.T in common]) for who in (mine, by_variant[base])]
        for x, y in cases.crossings(np.array(common, float), *rates) if variant != base else ():
            ax.plot([x], [y], "x", ms=9, mew=1.8, color=style.INK, zorder=5)
            said.append((x, variant))
    lengths = ", ".join(f"{variant} {x:.0f}" for x, variant in sorted(said))
    return f"crossings with {base} at T of about: {lengths}." if said else f"no mixer crosses {base}."


def dress(ax, label, first, lengths):
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths, [f"{t // 1024}k" if t >= 1024 else str(t) for t in lengths])
    ax.xaxis.set_minor_locator(style.NullLocator())
    style.decades(ax.yaxis)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:,g}" if "MiB" in label else short(v))
    ax.set_xlabel("length T")
    ax.set_ylabel(label)
    ax.set_title(first)


def figure(runs):
    found = cases.panels(cases.cases(runs), "T")
    if not found:
        return None
    canvas, notes = style.figure(7.6, 0.8 + 2.9 * len(found)), []
    for axes, (mode, mine) in zip(canvas.subplots(len(found), 2, squeeze=False), found.items(), strict=True):
        by_variant = {v: [c for c in mine if c.variant == v] for v in dict.fromkeys(c.variant for c in mine)}
        widths = np.linspace(2.6, 1.3, len(by_variant))  # later lines are thinner: two that coincide are both seen
        for variant, width in zip(sorted(by_variant), widths, strict=True):
            each = by_variant[variant]
            quartiles = [np.percentile(c.seconds, [75, 25]) for c in each]
            bounds = [[c.tokens / q[i] for c, q in zip(each, quartiles, strict=True)] for i in (0, 1)]
            line(axes[0], each, width, [c.rate for c in each], *bounds)
            line(axes[1], each, width, [c.memory / MIB for c in each])
        shape, lengths = mine[0], sorted({c.T for c in mine})
        title = f"{cases.MODES[mode]}, B {shape.B}, D {shape.D}, threads {shape.threads}"
        dress(axes[0], "tokens per second", title, lengths)
        dress(axes[1], "memory (MiB)", "", lengths)
        notes.append(f"{cases.MODES[mode].capitalize()}: {cross(axes[0], by_variant)}")
    curves.legend(canvas)
    curves.footnote(canvas, notes)
    return canvas
