"""Roofline.

Every op of every mixer (large: whole mixers) where its declared work per byte meets the rate it reaches; filled:
forward, hollow: backward or both. Numbered: the ops that take longest. Lines: the copy and matrix-product rates that
the same process measured. A point below the lines has time to win; ops whose work is exponentials cannot reach them,
those whose arrays stay in cache can pass the rate of copies from memory.
"""

import numpy as np

from ssmb import cases, curves, style
from ssmb.estimate import rates

ORDER = 34
KINDS = ("bench",)
NAMED = 4  # mixers of which two ops each are numbered; of more, one each


def largest(found):
    """One shape per level: the one with the most tokens and channels."""
    top = max(((c.tokens, c.D) for c in found), default=None)
    return [c for c in found if (c.tokens, c.D) == top and c.flops > 0 and c.bytes > 0]


def name_slowest(ax, ops):
    """Numbers the ops that take longest, two of each mixer at most; what they are, for the small print."""
    said, variants = [], sorted({c.variant for c in ops})
    for variant in variants:
        mine = sorted((c for c in ops if c.variant == variant), key=lambda c: -c.median)
        for c in mine[: 2 if len(variants) <= NAMED else 1]:
            said.append(
                f"{len(said) + 1} {variant} {c.part.split('.', 1)[-1].replace('.', ' ')} {1e3 * c.median:.3g} ms"
            )
            ax.annotate(str(len(said)), (c.flops / c.bytes, c.flops / c.median), xytext=(4, 3),
                        textcoords="offset points", fontsize=8)  # fmt: skip
    return [f"Ops that take longest: {', '.join(said)}."] if said else []


def figure(runs):
    known = [(run, rate) for run in runs if (rate := rates(run))]
    drawn = []
    for run, rate in known:
        whole = largest([c for c in cases.cases([run], ("mixer",)) if c.mode != "decode"])
        drawn += [(c, rate) for c in largest(cases.cases([run], ("op",))) + whole]
    if not drawn:
        return None
    threads = max(c.threads for c, _ in drawn)
    drawn = [(c, rate) for c, rate in drawn if c.threads == threads]
    rate = {kind: max(r[kind] for _, r in drawn) for kind in drawn[0][1]}
    canvas = style.figure(7.6, 4.8)
    ax = canvas.subplots()
    for variant in sorted({c.variant for c, _ in drawn}):
        colour, marker = style.mark(variant)
        ax.plot([], [], marker, ms=7, color=colour, label=variant)
    for c, _ in drawn:
        colour, marker = style.mark(c.variant)
        forward = c.mode == "forward" if c.level == "mixer" else c.part.endswith(".forward")
        face = colour if forward else style.PAPER
        size = 9 if c.level == "mixer" else 4.5
        ax.plot([c.flops / c.bytes], [c.flops / c.median], marker, ms=size, color=colour, mfc=face)
    slowest = name_slowest(ax, [c for c, _ in drawn if c.part])
    intensity = np.array([c.flops / c.bytes for c, _ in drawn])
    ridge = rate["flops"] / rate["bytes"]
    x = np.array([min(intensity.min() / 2, ridge / 4), ridge, max(intensity.max() * 2, ridge * 4)])
    ax.plot(x, np.minimum(rate["flops"], x * rate["bytes"]), color=style.INK, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.annotate(f"matrix product {rate['flops'] / 1e9:.0f} GFLOP/s", (x[2], rate["flops"]), xytext=(0, 4),
                textcoords="offset points", ha="right", fontsize=8.5)  # fmt: skip
    middle = np.sqrt(x[0] * ridge)
    ax.annotate(f"copy {rate['bytes'] / 1e9:.1f} GB/s", (middle, middle * rate["bytes"]), xytext=(8, -6), va="top",
                textcoords="offset points", ha="left", fontsize=8.5)  # fmt: skip
    style.decades(ax.yaxis)
    style.decades(ax.xaxis)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v / 1e9:g}")
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.set_xlabel("declared FLOPs per byte")
    ax.set_ylabel("GFLOP/s")
    c = drawn[0][0]
    ax.set_title(f"B {c.B}, T {c.T}, D {c.D}, threads {threads}")
    curves.legend(canvas)
    key = "Small: ops, large: whole mixers. Filled: forward, hollow: with backward or backward alone."
    curves.footnote(canvas, [key, *slowest])
    return canvas
