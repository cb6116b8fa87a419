"""Training step against plain PyTorch.

Same model, batch and machine, the two sides measured in turn (scripts/peers/compare), a row of panels per device,
precision of matrix products and shape. Coloured: ours, grey: PyTorch in its fastest mode; median over all steps, and
peak memory: of the process on a CPU, allocated at once on a GPU. The factor is PyTorch / ours: above 1, ours is faster
or smaller. Open marks: PyTorch's other modes.
"""

import numpy as np

from ssmb import bars, curves, style
from ssmb.series import group, median

ORDER = 60
MIB = 1024.0**2
MODES = {"eager": "o", "compile": "s", "graph": "^", "compile_graph": "D"}


def shape(run):
    return tuple(int(run.config.get(key, 0)) for key in ("train.batch", "train.length", "model.d_model", "model.depth"))


def milliseconds(run, phase):
    return 1e3 * np.median(run.timing[phase]["seconds"]) if phase in run.timing else float("nan")


def sizes(run):
    """(ours, PyTorch's) in MiB: of the device where both were counted there, else of the process."""
    names = ("high_water", "peer_high_water") if "peer_high_water" in run.memory else ("rss", "peer_rss")
    return [run.memory[name] / MIB for name in names]


def panel(ax, series, ours, theirs, label, name=lambda run: ""):
    """Two bars per series, ours above PyTorch's, the ratio at the end of the longer one."""
    y = bars.rows(ax, series)
    mine, other = ([median(map(f, s.runs)) for s in series] for f in (ours, theirs))
    ax.barh(y - 0.19, mine, height=0.36, color=[style.mark(s.mark)[0] for s in series])
    ax.barh(y + 0.19, other, height=0.36, color=style.FAINT)
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        ax.annotate(
            f"× {b / a:.2f}{name(series[i].runs[0])}" if b < 10 * a else f"× {b / a:.0f}{name(series[i].runs[0])}",
            (max(a, b), i - 0.19),  # above the marks of the other modes
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_xlim(0, max(mine + other) * (1.5 if name(series[0].runs[0]) else 1.2))
    ax.set_xlabel(label)
    ax.locator_params(axis="x", nbins=5)


def other_modes(ax, series):
    """Marks on PyTorch's bars; those that would lie outside stand at the edge, with a right-pointing mark."""
    edge = ax.get_xlim()[1]
    for mode, marker in MODES.items():
        at = [median(milliseconds(r, f"peer_{mode}") for r in s.runs) for s in series]
        at = [v if r.runs[0].timing["peer_train_step"].get("mode") != mode else np.nan
              for v, r in zip(at, series, strict=True)]  # fmt: skip
        if not np.isfinite(at).any():
            continue
        y = np.arange(len(series)) + 0.19
        inside = [v if v <= edge else np.nan for v in at]
        ax.plot(inside, y, marker, ms=5, mfc="none", mec=style.INK, label=f"PyTorch, {mode}", linestyle="none")
        for k in np.flatnonzero(np.array(at) > edge):
            ax.plot([edge], [y[k]], marker, ms=5, mfc="none", mec=style.INK, clip_on=False)


def failures(runs):
    """One text per mode and reason, with the variants it holds for."""
    by_reason = {}
    for run in runs:
        for mode, state, reason in zip(*(run.peer.get(k, ()) for k in ("mode", "state", "reason")), strict=True):
            if state == "failed":
                by_reason.setdefault(f"{mode}: {reason}", []).append(run.mixer)
    return [f"PyTorch, {reason} ({', '.join(sorted(set(who)))})." for reason, who in by_reason.items()]


def figure(runs):
    runs = [r for r in runs if len(r.peer.get("mode", ())) or "peer_train_step" in r.timing]
    shown = [r for r in runs if "peer_train_step" in r.timing]
    if not shown:
        return "; ".join(failures(runs)) or None
    rows = {}
    for run in shown:
        rows.setdefault((shape(run), run.device, str(run.config.get("run.gemm", "fp32"))), []).append(run)
    grouped = {key: group(mine) for key, mine in sorted(rows.items())}
    canvas = style.figure(7.6, sum(1.0 + 0.55 * len(s) for s in grouped.values()))
    axes = canvas.subplots(len(rows), 2, squeeze=False, height_ratios=[len(s) + 1 for s in grouped.values()])
    for (left, right), (((b, t, d, layers), device, gemm), series) in zip(axes, grouped.items(), strict=True):
        several = any(len(r.peer.get("mode", ())) > 1 for s in series for r in s.runs)
        mode = (lambda run: f" {run.timing['peer_train_step']['mode']}") if several else (lambda run: "")
        clock = [lambda r, n=n: milliseconds(r, n) for n in ("train_step", "peer_train_step")]
        panel(left, series, *clock, "one training step (ms)", mode)
        other_modes(left, series)
        on_device = all("peer_high_water" in r.memory for s in series for r in s.runs)
        what = "allocated at once on the device (MiB)" if on_device else "peak memory of the process (MiB)"
        panel(right, series, *(lambda r, i=i: sizes(r)[i] for i in (0, 1)), what)
        right.set_yticklabels([])
        if len(rows) > 1 or several:
            size = f", B {b} T {t} D {d}, {layers} layers" if len({key[0] for key in rows}) > 1 else ""
            left.set_title(f"{device}, {gemm}{size}", loc="left")
    several = any(len(r.peer.get("mode", ())) > 1 for r in shown)
    notes = [
        f"Colour: ssmbench; grey: PyTorch{', in the mode that is fastest' if several else ''}. ×: PyTorch's over ours."
    ]
    notes += ["A mark on the right edge lies beyond it."] if several else []
    notes += failures(runs)
    scans = sorted({str(s) for r in shown for s in r.peer.get("scan", ()) if s})
    notes += [f"PyTorch's selective scan: {'; '.join(scans)}."] if scans else []
    if canvas.axes[0].get_legend_handles_labels()[1]:
        curves.legend(canvas)
    curves.footnote(canvas, notes)
    return canvas
