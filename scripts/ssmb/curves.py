"""Curves against tokens or seconds, one panel per task, with the task's reference lines named in the right margin."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from . import style
from .results import Reference, Run
from .series import Series, band, group

X_LABEL = {
    "tokens_real": "training tokens (padding not counted)",
    "flops": "training FLOPs (declared by the ops, forward and backward)",
    "seconds": "training time (seconds, evaluation not counted)",
    "joules": "training energy (joules, evaluation not counted)",
}
LINES = {"chance": ":", "floor": "--"}


def _clean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep].astype(float), y[keep].astype(float)


def _points(run: Run, table: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns x and y of /train, or of one split of /eval."""
    rows = run.train if table == "train" else run.curve(table)
    return _clean(rows[x], rows[y]) if x in rows and y in rows else (np.array([]), np.array([]))


def _smooth(y: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average; the ends use what is there."""
    if len(y) <= window:
        return y
    weight = np.convolve(np.ones_like(y), np.ones(window), "same")
    return np.convolve(y, np.ones(window), "same") / weight


def lines(
    ax: Axes, series: list[Series], table: str, x: str, y: str, scale: float = 1, smooth: float = 0
) -> tuple[float, float]:
    """One line per series (mean, seed range); returns (lowest, highest) value. smooth: window, share of a curve."""
    bottom, top = float("inf"), 0.0
    for one in series:
        curves = [c for c in (_points(run, table, x, y) for run in one.runs) if len(c[0])]
        if not curves:
            continue
        if smooth:
            curves = [(cx, _smooth(cy, max(10, int(smooth * len(cy))))) for cx, cy in curves]
        cx, mean, low, high = band(curves)
        colour, marker = style.mark(one.mark)
        same = [s for s in series if s.mark == one.mark]
        dash = ("-", "--", "-.", ":")[same.index(one) % 4]
        every = max(1, len(cx) // 10)
        ax.plot(cx, mean * scale, dash, color=colour, marker=marker, markevery=every, label=one.label)
        if len(curves) > 1:
            ax.fill_between(cx, low * scale, high * scale, color=colour, alpha=0.2, linewidth=0)
        bottom, top = min(bottom, float(mean.min()) * scale), max(top, float(mean.max()) * scale)
    return bottom, top


def shown(references: list[Reference], top: float) -> tuple[list[Reference], list[Reference]]:
    """(drawn, left out): everything up to the first ladder step above the best curve, and every published value."""
    ordered = sorted(references, key=lambda r: r.value)
    limit = max([top, *(r.value for r in ordered if r.kind == "published")])
    limit = min([r.value for r in ordered if r.kind == "ladder" and r.value > limit], default=limit)
    return [r for r in ordered if r.value <= limit], [r for r in ordered if r.value > limit]


def reference_lines(ax: Axes, references: list[Reference], sources: list[str]) -> None:
    """Horizontal lines at the references (in percent), named beside the axes by labels that keep their distance."""
    low, high = ax.get_ylim()
    height = ax.figure.get_figheight() * 72 * 0.68 / max(1, len(ax.figure.axes))  # points, about
    places = style.spread([r.value * 100 for r in references], (high - low) * 10.5 / height, low, high)
    for r, place in zip(references, places, strict=True):
        value, published = r.value * 100, r.kind == "published"
        colour = style.INK if published else style.FAINT
        if published:  # they lie close together: a mark at the edge and a hair line across
            ax.axhline(value, linewidth=0.5, color=colour, alpha=0.3, zorder=1)
            ax.plot([0.975, 1], [value, value], color=colour, linewidth=1.6, transform=ax.get_yaxis_transform())
        else:
            ax.axhline(value, linestyle=LINES.get(r.kind, "-"), linewidth=0.9, color=colour, zorder=1)
        leader = ([1, 1.012, 1.028, 1.034], [value, value, place, place])
        ax.plot(*leader, color=style.FAINT, linewidth=0.5, transform=ax.get_yaxis_transform(), clip_on=False)
        note = f" [{sources.index(r.source) + 1}]" if r.source else ""
        ax.text(
            1.04,
            place,
            f"{r.label} {value:.1f}{note}",
            va="center",
            fontsize=8,
            color=colour,
            transform=ax.get_yaxis_transform(),
        )


def _x_axis(ax: Axes, x: str, series: list[Series]) -> None:
    ends = [run.total(x) for one in series for run in one.runs]
    ends = [e for e in ends if np.isfinite(e) and e > 0]
    if ends and max(ends) > 12 * min(ends):
        ax.set_xscale("log")
    ax.xaxis.set_major_formatter(EngFormatter(sep=" ") if x != "seconds" else FuncFormatter(lambda v, _: f"{v:g}"))
    ax.set_xlabel(X_LABEL[x])


def _canvas(tasks: list[str], per_panel: float) -> tuple[Figure, list[Axes]]:
    canvas = style.figure(7.6, 0.5 + per_panel * len(tasks))
    return canvas, list(np.atleast_1d(canvas.subplots(len(tasks), 1, squeeze=True)))


def accuracy(runs: list[Run], x: str) -> Figure | None:
    """Score on held-out examples against x: validation as lines, the final test score as a ringed mark."""
    runs = [r for r in runs if r.evals]
    if not runs:
        return None
    series = group(runs)
    tasks = list(dict.fromkeys(s.task for s in series))
    canvas, panels = _canvas(tasks, 4.1)
    notes = [_seeds(series)]
    for ax, task in zip(panels, tasks, strict=True):
        of = f"{task}: " if len(tasks) > 1 else ""
        mine = [s for s in series if s.task == task]
        references = {(r.kind, r.label): r for s in mine for run in s.runs for r in run.references}
        percent = 100 if mine[0].runs[0].metric == "accuracy" else 1
        split = (
            "validation"
            if any(len(run.curve("validation").get("step", ())) for s in mine for run in s.runs)
            else "test"
        )
        bottom, top = lines(ax, mine, split, x, "metric", percent)
        for one in mine:
            for run in one.runs if split == "validation" else ():
                tx, ty = _points(run, "test", x, "metric")
                if len(tx):
                    colour, marker = style.mark(one.mark)
                    ax.plot(tx[-1:], ty[-1:] * percent, marker, ms=8, mfc="none", mec=colour, mew=1.6, clip_on=False)
                    top = max(top, float(ty[-1]) * percent)
        ax.set_ylabel("accuracy (%)" if percent == 100 else mine[0].runs[0].metric)
        _x_axis(ax, x, mine)
        ax.set_title(task if len(tasks) > 1 else "")
        if percent == 100 and references:
            drawn, out = shown(list(references.values()), top / 100)
            low = min([bottom, *(r.value * 100 for r in drawn)])
            high = max([top, *(r.value * 100 for r in drawn)])
            ax.set_ylim(max(0, low - 0.06 * (high - low)), min(101, high + 0.04 * (high - low)))
            sources = list(dict.fromkeys(r.source for r in drawn if r.source))
            reference_lines(ax, drawn, sources)
            ax.grid(False, axis="y")
            notes.append(of + "; ".join(f"[{i + 1}]\u00a0{s}" for i, s in enumerate(sources)) + ".")
            if any(r.kind == "published" for r in drawn):
                notes.append(of + "Black marks at the right edge: published results, trained to the end.")
            if out:
                notes.append(of + "Above the axis: " + ", ".join(f"{r.label} {r.value * 100:.1f}" for r in out) + ".")
    legend(canvas)
    footnote(canvas, notes)
    return canvas


def loss(runs: list[Run], x: str) -> Figure | None:
    """Training loss against x, smoothed over 5 % of each curve."""
    runs = [r for r in runs if len(r.train.get("loss", ())) > 1]
    if not runs:
        return None
    series = group(runs)
    tasks = list(dict.fromkeys(s.task for s in series))
    canvas, panels = _canvas(tasks, 3.6)
    for ax, task in zip(panels, tasks, strict=True):
        mine = [s for s in series if s.task == task]
        lines(ax, mine, "train", x, "loss", smooth=0.05)
        ax.set_ylabel("training loss (nats per example)" if mine[0].runs[0].metric == "accuracy" else "training loss")
        _x_axis(ax, x, mine)
        ax.set_title(task if len(tasks) > 1 else "")
    legend(canvas)
    footnote(canvas, [_seeds(series)])
    return canvas


def _seeds(series: list[Series]) -> str:
    counts = sorted({len(s.runs) for s in series})
    return f"Seeds per line: {', '.join(map(str, counts))}." if counts[-1] > 1 else ""


def legend(canvas: Figure) -> None:
    """One legend above all panels, every label once."""
    entries = {
        label: handle for ax in canvas.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    columns = max(1, min(6, int(canvas.get_figwidth() * 13) // (7 + max(map(len, entries), default=1))))
    rows = -(-len(entries) // columns)
    canvas.set_figheight(canvas.get_figheight() + 0.19 * max(0, rows - 1))
    canvas.legend(
        entries.values(), entries.keys(), loc="outside upper left", ncols=columns, handlelength=2.4, columnspacing=1.4
    )


def footnote(canvas: Figure, notes: list[str]) -> None:
    """Small print under the axes, broken into lines that fit the figure's width."""
    width = int(canvas.get_figwidth() * 17)
    out = [line for note in notes for line in textwrap.wrap(note, width, subsequent_indent="  ")]
    if out:
        canvas.supxlabel("\n".join(out), x=0.01, ha="left", fontsize=7.5, color=style.FAINT)
