"""The report's tables of what `ssmbench bench` timed, and of what it could not."""

import html

import numpy as np

from .results import Run
from .tables import MIB, Cell, number, table
from .words import short

COLUMNS = ["what", "pass", "B", "T", "D", "N", "view", "threads", "precision", "median, ms", "quartiles, ms"]
COLUMNS += ["tokens per second", "measured memory, MiB", "state"]


def _row(run: Run, case: dict) -> list[Cell]:
    low, middle, high = np.percentile(1e3 * np.asarray(run.timing[str(case["case"])]["seconds"]), [25, 50, 75])
    rate = case["tokens"] / middle * 1e3
    text = f"{low:.3g} – {high:.3g}"
    mode = str(case["mode"]).replace("_", " + ")
    row = [Cell(f"{case['level']} {case['variant']}"), Cell(mode, mode, f"<span class=keep>{mode}</span>")]
    row += [number(int(case[axis]), str(case[axis])) for axis in ("B", "T", "D")]
    n, threads = int(case.get("N", -1)), int(case.get("threads", run.meta.get("threads", 0)))
    row += [number(n, str(n) if n > 0 else "–"), Cell(str(case.get("view", "")) or "–"), number(threads, str(threads))]
    row.append(Cell(str(case.get("precision") or run.precision)))
    row += [number(middle, f"{middle:.3g}"), Cell(text, low, f"<span class=keep>{text}</span>")]
    row += [number(rate, short(rate)), number(float(case["high_water"]), f"{case['high_water'] / MIB:.1f}")]
    state, reason = str(case["state"]), str(case["reason"])
    wide = f"<div class=wide>{html.escape(state)}: {html.escape(reason)}</div>" if reason else ""
    return [*row, Cell(state, state, wide)]


def all_tables(runs: list[Run]) -> str:
    """Every case of every bench file that was timed; ops are in the figures only. Behind it the reasons of those that
    were not. Empty without a bench file."""
    rows, lost = [], {}
    for run in runs:
        for i in range(len(run.bench.get("case", ()))):
            case = {name: column[i] for name, column in run.bench.items()}
            if str(case["case"]) in run.timing:
                rows += [_row(run, case)] if case["level"] != "op" else []
            elif case["state"] in ("skipped", "failed"):
                lost.setdefault((str(case["state"]), str(case["reason"])), []).append(str(case["variant"]))
    out = table(COLUMNS, rows) if rows else ""
    if lost:
        columns = ["state", "reason", "cases", "variants"]
        said = [[Cell(state), Cell(reason), number(len(who), str(len(who))), Cell(", ".join(sorted(set(who))))]
                for (state, reason), who in lost.items()]  # fmt: skip
        out += table(columns, said, "Cases without a time, and why")
    return out
