"""HTML tables of differences: the ablation of a sweep, and one sweep against another."""

import html

import numpy as np

from .effects import Effect, ablation, effect
from .results import Run
from .series import Series, group, median, settings
from .tables import Cell, name_cell, number, table


def _unit(series: Series) -> tuple[str, float, str]:
    """(name, factor, unit of a difference) of the metric."""
    metric = series.runs[0].metric
    return (f"{metric}, %", 100.0, "points") if metric == "accuracy" else (metric, 1.0, metric)


def _said(value: float, scale: float, sign: str) -> str:
    return (f"{value * scale:{sign}.1f}" if scale == 100 else f"{value:{sign}.3g}").replace("-", "−")


def _interval(low: float, high: float, scale: float, sign: str = "") -> Cell:
    if low != low:
        return Cell("–", "")
    text = f"{_said(low, scale, sign)} to {_said(high, scale, sign)}"
    return Cell(text, low, f"<span class=keep>{text}</span>")


def _value(value: float, scale: float, sign: str = "") -> Cell:
    if value != value:
        return number(value, "–")
    return number(value, _said(value, scale, sign))


def _difference(e: Effect, scale: float) -> list[Cell]:
    how = "–" if e.mark == "one seed" else "paired" if e.paired else "unpaired"
    return [
        _value(e.difference, scale, "+"), _interval(e.difference_low, e.difference_high, scale, "+"), Cell(how),
        Cell(e.mark or "–", e.mark),
    ]  # fmt: skip


def ablations(runs: list[Run]) -> str:
    """One table per task that has several settings: each against the base, largest gain first."""
    parts, series = [], group(runs)
    for task in dict.fromkeys(s.task for s in series):
        base, effects = ablation([s for s in series if s.task == task])
        if not effects:
            continue
        name, scale, unit = _unit(base)
        whole = effect(base, None, "")
        rows = []
        for e in [whole, *effects]:
            first = Cell(e.change) if e.change else Cell(f"{base.label} (base)")
            row = [first, number(e.seeds), _value(e.mean, scale), _value(e.deviation, scale)]
            row.append(_interval(e.low, e.high, scale))
            rows.append(row + (_difference(e, scale) if e.change else [_value(0.0, scale)] + [Cell("–", "")] * 3))
        columns = ["change", "seeds", name, "deviation", "95 % interval", f"difference, {unit}"]
        columns += ["95 % interval of it", "compared", "doubt"]
        caption = f"{task}: every setting against {base.label}"
        parts.append(table(columns, rows, caption))
    if not parts:
        return ""
    note = (
        "Deviation: over seeds. Intervals: bootstrap over seeds (10,000 draws); with three seeds they are rather too "
        "narrow. Paired: the differences at equal seed, hence equal data, are resampled. "
        "Doubt: a difference under two deviations (sd) over seeds, or of one seed, may be luck."
    )
    return "\n".join(parts) + f"<ul class=notes><li>{note}</li></ul>"


def _ratio(new: float, old: float) -> Cell:
    ratio = new / old if old else float("nan")
    return number(ratio, f"× {ratio:.2f}" if np.isfinite(ratio) else "–")


def against(runs: list[Run], others: list[Run], name: str) -> str:
    """This sweep against another folder, setting by setting: score, speed, memory."""

    def key(s: Series) -> tuple:
        return s.task, s.mixer, tuple(sorted((k, str(v)) for k, v in settings(s.runs[0]).items()))

    mine, theirs = {key(s): s for s in group(runs)}, {key(s): s for s in group(others)}
    rows = []
    for k in mine.keys() & theirs.keys():
        one, other = mine[k], theirs[k]
        e = effect(one, other, f"against {name}")
        if e is None:
            continue
        _, scale, _ = _unit(one)
        row = [name_cell(one), Cell(one.task), Cell(f"{e.seeds} / {len(other.runs)}", e.seeds)]
        row += [_value(e.mean, scale), *_difference(e, scale)]
        row.append(_ratio(*(median(r.tokens_per_second() for r in s.runs) for s in (one, other))))
        memory = (median(r.measured_bytes().get("high_water", float("nan")) for r in s.runs) for s in (one, other))
        rows.append([*row, _ratio(*memory)])
    rows.sort(key=lambda row: (row[1].text, row[0].text))
    said = []
    for text, only in (("Only here", mine.keys() - theirs.keys()), (f"Only in {name}", theirs.keys() - mine.keys())):
        if only:
            labels = sorted({(mine.get(k) or theirs.get(k)).label for k in only})
            said.append(f"{text}: {', '.join(labels)}.")
    if not rows:
        said.insert(0, "No setting is in both, so nothing can be compared.")
    columns = ["variant", "task", "seeds, here / there", "score here", "difference", "95 % interval of it", "compared"]
    columns += ["doubt", "speed", "memory"]
    notes = "".join(f"<li>{html.escape(x)}</li>" for x in said)
    return (table(columns, rows) if rows else "") + (f"<ul class=notes>{notes}</ul>" if notes else "")
