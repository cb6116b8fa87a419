"""One self-contained HTML page: inline style, script and SVG, no network; light, dark, print and phone."""

import html
import re
from pathlib import Path

from . import bench_table, effect_tables, style, tables
from .figures import Figure, svg
from .results import Run
from .series import better, group, level, score, worse_end

HERE = Path(__file__).parent


def drawing(figure: Figure, runs: list[Run]) -> str:
    """One figure as <figure>; empty, or a line with the reason, when it has nothing to show. Its neutral colours follow
    the page's."""
    canvas = figure.draw(runs) if runs else None
    if canvas is None:
        return ""
    if isinstance(canvas, str):
        return f'<p id="{figure.name}">{html.escape(figure.title)}: {html.escape(canvas)}.</p>'
    text = svg(canvas)
    for colour, name in ((style.INK, "ink"), (style.FAINT, "faint"), (style.GRID, "grid"), (style.PAPER, "card")):
        text = text.replace(colour, f"var(--{name})")
    mine = f"{figure.name}-"
    text = re.sub(r'\bid="', f'id="{mine}', text)
    text = re.sub(r'href="#', f'href="#{mine}', text).replace("url(#", f"url(#{mine}")
    title = html.escape(figure.title)
    text = text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    width = f"{canvas.get_figwidth() * 7.2:.0f}rem"
    return (
        f'<figure id="{figure.name}" style="--w:{width}"><h3>{title}</h3><div class="scroll">{text}</div>'
        f"<figcaption><p>{html.escape(figure.caption)}</p></figcaption></figure>"
    )


def lede(runs: list[Run]) -> str:
    """The result in one sentence per task."""
    said, series = [], group(runs)
    for task in dict.fromkeys(s.task for s in series):
        scored = [s for s in series if s.task == task and score(s)]
        if not scored:
            continue
        sign = better(scored[0].runs[0])
        best = max(scored, key=lambda s: sign * score(s).value)
        s, run = score(best), best.runs[0]
        value = f"{s.value * 100:.1f} %" if run.metric == "accuracy" else f"{run.metric} {s.value:.4g}"
        interval = f"95 % interval {s.low * 100:.1f} to {s.high * 100:.1f}, {s.over}"
        over = f" ({interval})" if s.over and run.metric == "accuracy" else ""
        reached = level(worse_end(s, run), run)
        passed = f"; it passes the reference line “{reached}”" if reached else ""
        if reached.startswith(("below", "above")):
            passed = f"; it may be {reached}"
        of, which = (
            (f"Of {len(scored)} variants on", "highest: " if sign > 0 else "lowest: ")
            if len(scored) > 1
            else ("On", "")
        )
        said.append(f"{of} {task}, {best.label} scores {which}{value}{over}{passed}.")
    return " ".join(said) or "No run has been evaluated yet."


def facts(runs: list[Run], used: list[Run]) -> str:
    devices = sorted({f"{r.device}, {r.meta.get('threads', '?')} threads" for r in used if r.meta})
    versions = sorted({r.version for r in used})
    days = sorted({r.created[:10] for r in used if r.created})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""
    complete = sum(r.state == "complete" for r in runs)
    parts = [f"{complete} of {len(runs)} runs complete", "; ".join(devices), f"code {', '.join(versions)}", when]
    return " · ".join(p for p in parts if p)


def section(name: str, title: str, text: str) -> tuple[str, str]:
    """(link, section) of the page; both empty when there is no text."""
    if not text:
        return "", ""
    return f'<a href="#{name}">{title.split(",")[0]}</a>', f'<h2 id="{name}">{html.escape(title)}</h2>{text}'


def build(name: str, runs: list[Run], used: list[Run], figures: list[Figure], mixed: list[str], other=None) -> str:
    """The page. runs: all of the folder; used: those that have something to show; other: (name, runs) of another
    folder to compare with."""
    trained = [r for r in used if r.kind == "train"]
    beside, others = other or ("", [])
    others = [r for r in others if r.kind == "train"]
    sections = [
        section("scores", "Scores", tables.all_tables(trained)),
        section("differences", "Differences", effect_tables.ablations(trained)),
        section("against", f"Against {beside}", effect_tables.against(trained, others, beside) if other else ""),
        section("figures", "Figures", "\n".join(filter(None, (drawing(f, used) for f in figures)))),
        section("timings", "Timings", bench_table.all_tables(used)),
        section("failed", "Not complete, and why", tables.failures(runs)),
        section("provenance", "Provenance", tables.provenance(runs)),
    ]
    warning = "".join(f"<p><strong>Mixed runs:</strong> {html.escape(m)}</p>" for m in mixed)
    nav, body = ("".join(part) for part in zip(*sections, strict=True))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark"><title>ssmbench: {html.escape(name)}</title>
<style>{(HERE / "page.css").read_text()}</style></head><body>
<header><h1>ssmbench: {html.escape(name)}</h1><p class="lede">{html.escape(lede(trained))}</p>
<p class="facts">{html.escape(facts(runs, used))}</p>{warning}<nav>{nav}</nav></header>
<main>{body}</main>
<script>{(HERE / "page.js").read_text()}</script></body></html>
"""
