"""Single operations, and one token, against the best of others.

Same shape, precision and device, the two sides measured in turn (scripts/peers/ops and scripts/peers/decode), a panel
per device and precision of matrix products. The bar is the ratio of medians, theirs over ours: above 1, ours is faster;
behind it both times in microseconds. What several runs have measured is drawn once, from the newest.
"""

import numpy as np

from ssmb import curves, style

ORDER = 61
KINDS = ("versus",)


def rows(run):
    """Of /versus, as dictionaries, with both medians in microseconds; NaN where a side has none."""
    for values in zip(*run.versus.values(), strict=True):
        row = dict(zip(run.versus, values, strict=True))
        for side in ("ours", "theirs"):
            seconds = run.timing.get(row[side], {}).get("seconds", ())
            row[side] = 1e6 * float(np.median(seconds)) if len(seconds) else float("nan")
        yield row


def label(row) -> str:
    size = f"B {row['B']} T {row['T']} D {row['D']}" + (f" N {row['N']}" if row["N"] >= 0 else "")
    return f"{row['what']} {row['phase'].replace('_', ' + ')}, {size}"


def panel(ax, shown) -> None:
    y = np.arange(len(shown))
    ratios = [row["theirs"] / row["ours"] for row in shown]
    ax.barh(y, ratios, height=0.62, color=[style.mark(row["variant"])[0] for row in shown])
    ax.axvline(1, color=style.INK, lw=0.8)
    for i, row in enumerate(shown):
        said = f"× {ratios[i]:.2f}   {row['ours']:,.1f} | {row['theirs']:,.1f} {row['mode']}"
        ax.annotate(said, (ratios[i], i), xytext=(5, 0), textcoords="offset points", va="center")
    ax.set_yticks(y, [label(row) for row in shown])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.8 * max(ratios))
    ax.set_xlabel("time, theirs / ours")


def figure(runs):
    every = [(run.device, row) for run in runs for row in rows(run)]
    missing = [f"{label(r)}: {r['reason']}." for _, r in every if not np.isfinite(r["ours"] + r["theirs"])]
    newest = {}
    for device, row in every:  # in the order of the runs
        if np.isfinite(row["ours"] + row["theirs"]):
            newest[device, row["precision"], label(row)] = row
    groups = {}
    for (device, precision, _), row in newest.items():
        groups.setdefault((device, precision), []).append(row)
    if not groups:
        return " ".join(missing) or None
    canvas = style.figure(9.0, sum(1.0 + 0.36 * len(shown) for shown in groups.values()))
    axes = canvas.subplots(len(groups), 1, squeeze=False, height_ratios=[len(shown) + 2 for shown in groups.values()])
    for (ax,), ((device, precision), shown) in zip(axes, sorted(groups.items()), strict=True):
        panel(ax, shown)
        ax.set_title(f"{device}, {precision}", loc="left")
    theirs = {}
    for shown in groups.values():
        for row in shown:
            name = row["version"] if row["kernel"] in ("", "PyTorch") else row["kernel"]
            theirs.setdefault(name, set()).add(row["what"])
    notes = [f"{name}: {', '.join(sorted(whats))}." for name, whats in sorted(theirs.items())]
    curves.footnote(canvas, ["Behind the bars: ours | theirs, µs.", *notes, *missing])
    return canvas
