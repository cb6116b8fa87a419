"""The tables of the report: plain rows from runs, and their HTML."""

import html
import math
import re
from dataclasses import dataclass

from . import style
from .results import Run
from .series import Series, better, group, level, median, score, worse_end
from .words import short

MIB = 1024.0**2
# What /meta tells about a run beyond its name: shown once when all runs agree, else as a column.
PROVENANCE = {
    "git_sha": "code version",
    "git_dirty": "uncommitted changes",
    "hostname": "host",
    "cpu": "CPU",
    "device": "device",
    "backend": "backend",
    "threads": "threads",
    "real": "number type",
    "gemm_precision": "GEMM precision",
    "compiler": "compiler",
    "compiler_flags": "compiler flags",
    "backend_flags": "device flags",
    "build_type": "build type",
    "kokkos_version": "Kokkos",
    "blas": "BLAS",
    "fft": "FFT",
    "driver": "driver",
}


@dataclass
class Cell:
    """Text of a table cell; sort: the number or word it is sorted by; markup: HTML instead of text."""

    text: str
    sort: object = None
    markup: str = ""
    number: bool = False


def number(value: float, text: str | None = None) -> Cell:
    return Cell(text if text is not None else short(value), "" if value != value else value, number=True)


def swatch(mixer: str) -> str:
    """The mark of a variant as it stands in the figures."""
    colour, marker = style.mark(mixer)
    shapes = {
        "o": '<circle cx="6" cy="6" r="4.5"/>',
        "s": '<rect x="2" y="2" width="8" height="8"/>',
        "^": '<path d="M6 1 11 10.5H1Z"/>',
        "v": '<path d="M6 11 11 1.5H1Z"/>',
        "<": '<path d="M1 6 10.5 1V11Z"/>',
        ">": '<path d="M11 6 1.5 1V11Z"/>',
        "D": '<path d="M6 .5 11.5 6 6 11.5.5 6Z"/>',
        "P": '<path d="M4 1h4v3h3v4H8v3H4V8H1V4h3Z"/>',
        "X": '<path d="M3 1 6 4 9 1l2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3Z"/>',
        "h": '<path d="M6 .8 10.6 3.4V8.6L6 11.2 1.4 8.6V3.4Z"/>',
    }
    return f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true" fill="{colour}">{shapes[marker]}</svg>'


def table(columns: list[str], rows: list[list[Cell]], caption: str = "", sortable: bool = True) -> str:
    """A table that scrolls sideways by itself; numbers to the right."""
    numeric = [all(r[i].number for r in rows) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{" class=n" if n else ""}>' + (f"<button>{c}</button>" if sortable else c) + "</th>"
        for c, n in zip(columns, numeric, strict=True)
    )
    body = []
    for row in rows:
        cells = []
        for i, (cell, n) in enumerate(zip(row, numeric, strict=True)):
            tag = 'th scope="row"' if i == 0 else "td"
            key = "" if cell.sort is None else f' data-sort="{html.escape(str(cell.sort))}"'
            inner = cell.markup or html.escape(cell.text)
            cells.append(f"<{tag}{' class=n' if n else ''}{key}>{inner}</{tag.split()[0]}>")
        body.append("<tr>" + "".join(cells) + "</tr>")
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    kind = " class=sortable" if sortable else ""
    rows_html = "\n".join(body)
    return (
        f'<div class="scroll" tabindex="0"><table{kind}>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows_html}\n</tbody></table></div>"
    )


def name_cell(series: Series) -> Cell:
    return Cell(series.label, series.label, f"{swatch(series.mark)} {html.escape(series.label)}")


GUESSES = ("majority", "permuted")  # columns of /eval


def energy(run: Run) -> float:
    """Joules of training per million tokens; NaN where they were not counted."""
    tokens = run.total("tokens_real")
    return 1e6 * run.total("joules") / tokens if tokens else float("nan")


def headline(series: list[Series], budget: bool = True) -> str:
    """One row per series of one task, best first."""
    percent = series[0].runs[0].metric == "accuracy"
    unit = f"{series[0].runs[0].metric}{', %' if percent else ''}"
    ladder = any(r.kind in ("floor", "ladder") for s in series for r in s.runs[0].references)
    columns = ["variant", unit, "95 % interval", *(["level reached"] if ladder else [])]
    columns += ["training tokens", "training seconds", "tokens per second", "param&shy;eters"]
    columns += ["planned memory, MiB", "measured memory, MiB"]
    counted = any(math.isfinite(energy(r)) for s in series for r in s.runs)
    columns += ["joules per million tokens"] if counted else []
    rows = []
    sign = better(series[0].runs[0])
    for one in sorted(series, key=lambda s: (score(s) is None, -sign * (score(s).value if score(s) else 0))):
        s, run, scale = score(one), one.runs[0], 100 if percent else 1
        row = [name_cell(one)]
        if s is None:
            row += [number(float("nan")), Cell("–")] + ([Cell("–")] if ladder else [])
        else:
            row.append(number(s.value, f"{s.value * scale:.1f}" if percent else f"{s.value:.4g}"))
            interval = f"{s.low * scale:.1f} – {s.high * scale:.1f}" if percent else f"{s.low:.4g} – {s.high:.4g}"
            row.append(
                Cell(interval if s.over else "–", s.low, f"<span class=keep>{interval}</span>" if s.over else "")
            )
            row += [Cell(level(worse_end(s, run), run), worse_end(s, run))] if ladder else []
        for column in ("tokens_real", "seconds"):
            row.append(number(median(r.total(column) for r in one.runs)))
        row.append(number(median(r.tokens_per_second() for r in one.runs)))
        row.append(number(float(run.model.get("parameters", "nan"))))
        planned = sum(run.planned_bytes().values()) / MIB or float("nan")
        measured = median(r.measured_bytes().get("high_water", float("nan")) for r in one.runs) / MIB
        row += [number(planned, f"{planned:.1f}"), number(measured, f"{measured:.1f}" if measured == measured else "–")]
        row += [number(median(energy(r) for r in one.runs))] if counted else []
        rows.append(row)
    return table(columns, rows)


def remarks(series: list[Series]) -> list[str]:
    """What a careful reader of the headline table should know."""
    said, scored = [], [s for s in series if score(s)]
    over = sorted({score(s).over for s in scored} - {""})
    if over:
        said.append(f"The intervals are over {' or '.join(over)}.")
    partial = [f"{s.label} ({r.state})" for s in series for r in s.runs if r.state != "complete"]
    if partial:
        said.append(f"Shown, but not complete: {', '.join(partial)}.")
    if len(scored) > 1:
        sign = better(scored[0].runs[0])
        best = max(scored, key=lambda s: sign * score(s).value)
        near = [
            s.label
            for s in scored
            if s is not best and score(s).low <= score(best).high and score(best).low <= score(s).high
        ]
        if near:
            said.append(f"Intervals that overlap that of the best, {best.label}: {', '.join(near)}.")
    seconds = {s.label: median(r.total("seconds") for r in s.runs) for s in series}
    known = [v for v in seconds.values() if v == v]
    if known and max(known) > 1.5 * min(known):
        longest = max(seconds, key=lambda k: seconds[k] if seconds[k] == seconds[k] else 0)
        said.append(
            f"The runs did not train equally long (shortest {min(known):.0f} s, longest {longest} {max(known):.0f} s); "
            "the curves compare them at equal tokens and at equal seconds."
        )
    waited = [w for s in series for r in s.runs if (w := float(r.how.get("loader_wait_share", "nan"))) == w]
    made = [w for s in series for r in s.runs if (w := float(r.how.get("loader_cpu_share", "nan"))) == w]
    if waited and made:
        said.append(
            f"Steps waited for data at most {100 * max(waited):.2g} % of the training time; "
            f"making it on the host took at most {100 * max(made):.2g} % of the CPU time of the steps."
        )
    uncounted = sorted({str(r.energy.get("reason", "")) for s in series for r in s.runs} - {""})
    if uncounted:
        said.append(f"Energy was not counted: {'; '.join(uncounted)}.")
    cheap = {name: [float(r.last_eval().get(name, "nan")) for s in series for r in s.runs] for name in GUESSES}
    found = {name: [v for v in values if v == v] for name, values in cheap.items()}
    if all(found.values()):
        spans = {name: sorted({f"{100 * min(v):.1f}", f"{100 * max(v):.1f}"}, key=float) for name, v in found.items()}
        said.append(
            f"Without reading the input: the most frequent label of the test examples scores "
            f"{' to '.join(spans['majority'])} %; these predictions score {' to '.join(spans['permuted'])} % "
            "where the labels are permuted at random."
        )
    if any(r.kind in ("floor", "ladder") for s in series for r in s.runs[0].references):
        said.append("Level reached: the best reference line that the worse end of the interval passes.")
    return said


def failures(runs: list[Run]) -> str:
    """Every run that is not complete, with its reason; empty when all are."""
    rows = [
        [Cell(r.run_id), Cell(r.mixer if r.config else "?"), Cell(r.state), Cell(r.reason or "no reason recorded")]
        for r in runs
        if r.state != "complete"
    ]
    return table(["run", "variant", "state", "reason"], rows, sortable=False) if rows else ""


def _short(name: str, value: object) -> str:
    if name == "git_sha":
        return str(value)[:12]
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def provenance(runs: list[Run]) -> str:
    """What all runs share, once; then one row per run with what differs, and every command line."""
    readable = [r for r in runs if r.meta]
    shared, differ = {}, []
    for name in PROVENANCE:
        values = {str(r.meta.get(name, "")) for r in readable}
        if len(values) > 1:
            differ.append(name)
        elif values - {""}:
            shared[name] = readable[0].meta[name]
    facts = "".join(
        f"<div><dt>{PROVENANCE[n]}</dt><dd>{html.escape(_short(n, v))}</dd></div>" for n, v in shared.items()
    )
    columns = ["run", "variant", "task", "seed", "state", "started", "steps", "check"]
    rows = []
    for r in runs:
        passed = {True: "passed", False: "failed"}.get(r.check.get("passed"), "–")
        row = [Cell(r.run_id), Cell(r.mixer), Cell(r.task_name), Cell(str(r.seed)), Cell(r.state), Cell(r.created)]
        row += [number(r.total("step"), f"{r.total('step'):.0f}" if r.train else "–"), Cell(passed)]
        rows.append(row + [Cell(_short(n, r.meta.get(n, "–"))) for n in differ])
    commands = "\n".join(_command(r) for r in readable if r.meta.get("argv"))
    block = f"<details><summary>Command lines</summary><pre>{html.escape(commands)}</pre></details>" if commands else ""
    return f"<dl>{facts}</dl>" + table(columns + [PROVENANCE[n] for n in differ], rows) + block


def _command(run: Run) -> str:
    """The command line with the program's path cut down to where it lies in the tree."""
    said = re.sub(r"^\S*?(build/\S+)", r"\1", str(run.meta["argv"]))
    return said if "ssmbench" in said.split()[0] else f"ssmbench {said}"


def all_tables(runs: list[Run]) -> str:
    """Headline tables with their remarks, one per task."""
    parts, series = [], group(runs)
    for task in dict.fromkeys(s.task for s in series):
        mine = [s for s in series if s.task == task]
        said = "".join(f"<li>{html.escape(x)}</li>" for x in remarks(mine))
        parts.append(f"<h3>{html.escape(task)}</h3>{headline(mine)}<ul class=notes>{said}</ul>")
    return "\n".join(parts)
