"""Roofline.

Every op of every mixer (large: whole mixers) where its declared work per byte meets the rate it reaches; filled:
forward, hollow: backward or both. Numbered: the ops that take longest. Lines: the copy and matrix-product rates that
the same process measured, a roof per precision of products; the dashed ones are of other precisions than a panel's
cases. A point below the lines has time to win; ops whose work is exponentials cannot reach them, those whose arrays
stay in cache can pass the rate of copies from memory.
"""

import numpy as np

from ssmb import cases, curves, style
from ssmb.estimate import product_rates, rates

ORDER = 34
KINDS = ("bench",)
NAMED = 4  # mixers of which two ops each are numbered; of more, one each


def largest(found):
    """One shape per level: the one with the most tokens and channels."""
    top = max(((c.tokens, c.D) for c in found), default=None)
    return [c for c in found if (c.tokens, c.D) == top and c.flops > 0 and c.bytes > 0]


def rounded(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def share(c, products, copy):
    """Of the rate that its precision and its bytes allow: percent."""
    return 100 * c.flops / c.median / min(products[c.precision], c.flops / c.bytes * copy)


def name_slowest(ax, ops, products, copy, said):
    """Numbers the ops that take longest, two of each mixer at most; adds what they are to the small print."""
    variants, at = sorted({c.variant for c in ops}), {}
    for variant in variants:
        mine = sorted((c for c in ops if c.variant == variant), key=lambda c: -c.median)
        for c in mine[: 2 if len(variants) <= NAMED else 1]:
            what, reached = c.part.split(".", 1)[-1].replace(".", " "), share(c, products, copy)
            share_text = f"{reached:.0f}" if reached >= 9.5 else f"{reached:.1g}"
            said.append(f"{len(said) + 1} {variant} {what} {rounded(1e3 * c.median)}\xa0ms, {share_text}\xa0%")
            x, y = c.flops / c.bytes, c.flops / c.median
            at.setdefault((round(8 * np.log2(x)), round(2 * np.log2(y))), (x, y, []))[2].append(str(len(said)))
    for x, y, numbers in at.values():  # those on one spot share a label
        ax.annotate(", ".join(numbers), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)


def roofs(ax, products, copy, own, low, high):
    """The lines from `low` to `high` FLOPs per byte, named in the margin."""
    first = min(products.values()) / copy
    for precision, rate in products.items():
        x = np.array([low if precision == own else first, rate / copy, high])
        dash, colour = ("-", style.INK) if precision == own else ("--", style.FAINT)
        ax.plot(x, np.minimum(rate, x * copy), dash, color=colour, linewidth=1.2)
        name = f"{precision} product\n{rounded(rate / 1e9)} GFLOP/s"
        ax.annotate(name, (1, rate), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=8.5, color=colour)  # fmt: skip
    ax.annotate(f"copy {rounded(copy / 1e9)} GB/s", (low * 1.3, low * 1.3 * copy), xytext=(6, -3), va="top",
                textcoords="offset points", ha="left", fontsize=8.5)  # fmt: skip
    ax.set_xlim(low, high)


def panel(ax, found, products, copy, span, said):
    for c in found:
        colour, marker = style.mark(c.variant)
        forward = c.mode == "forward" if c.level == "mixer" else c.part.endswith(".forward")
        size, face = 9 if c.level == "mixer" else 4.5, colour if forward else style.PAPER
        ax.plot([c.flops / c.bytes], [c.flops / c.median], marker, ms=size, color=colour, mfc=face)
    name_slowest(ax, [c for c in found if c.part], products, copy, said)
    roofs(ax, products, copy, found[0].precision, *span)
    ax.set_xscale("log")
    ax.set_yscale("log")
    style.decades(ax.yaxis)
    style.decades(ax.xaxis)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v / 1e9:,g}")
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:,g}")
    ax.set_ylabel("GFLOP/s")
    c = found[0]
    device = c.device.removesuffix(f", {c.precision}")
    ax.set_title(f"{device}, {c.precision}: B {c.B}, T {c.T}, D {c.D}, threads {c.threads}")


def gather(runs):
    """By device and precision: the cases on the most threads, FLOPs per second of products by precision, bytes per
    second of copies."""
    out = {}
    for run in runs:
        rate, products = rates(run), product_rates(run)
        whole = [c for c in cases.cases([run], ("mixer",)) if c.mode != "decode"]
        for c in largest(cases.cases([run], ("op",))) + largest(whole) if rate else ():
            if c.precision not in products:
                continue
            mine, best, copies = out.setdefault((c.device, c.precision), ([], {}, [0.0]))
            mine.append(c)
            copies[0] = max(copies[0], rate["bytes"])
            best |= {p: max(v, best.get(p, 0.0)) for p, v in products.items()}
    for key, (mine, best, copies) in out.items():
        threads = max(c.threads for c in mine)
        out[key] = [c for c in mine if c.threads == threads], best, copies[0]
    return out


def figure(runs):
    found = gather(runs)
    if not found:
        return None
    canvas = style.figure(7.6, 0.9 + 3.9 * len(found))
    axes = canvas.subplots(len(found), sharex=True, sharey=True, squeeze=False)[:, 0]
    at = [c.flops / c.bytes for mine, _, _ in found.values() for c in mine]
    ridges = [rate / copy for _, products, copy in found.values() for rate in products.values()]
    span = min(min(at) / 2, min(ridges) / 4), max(max(at) * 2, max(ridges) * 4)
    for variant in sorted({c.variant for mine, _, _ in found.values() for c in mine}):
        colour, marker = style.mark(variant)
        axes[0].plot([], [], marker, ms=7, color=colour, label=variant)
    slowest = []
    for ax, (_, (mine, products, copy)) in zip(axes, sorted(found.items()), strict=True):
        panel(ax, mine, products, copy, span, slowest)
    axes[-1].set_xlabel("declared FLOPs per byte")
    curves.legend(canvas)
    notes = ["Small: ops, large: whole mixers. Filled: forward, hollow: with backward or backward alone."]
    if slowest:
        notes.append(f"Ops that take longest, and how much of what the lines allow they reach: {'; '.join(slowest)}.")
    curves.footnote(canvas, notes)
    return canvas
