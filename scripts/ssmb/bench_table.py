"""The report's table of what `ssmbench bench` timed."""

import numpy as np

from .results import Run
from .tables import MIB, Cell, number, table
from .words import short


def _row(run: Run, i: int) -> list[Cell]:
    case = {name: column[i] for name, column in run.bench.items()}
    timing = run.timing.get(str(case["case"]))
    seconds = np.asarray(timing["seconds"]) if timing else np.array([np.nan])
    low, middle, high = np.percentile(1e3 * seconds, [25, 50, 75])
    rate = case["tokens"] / middle * 1e3
    text = f"{low:.3g} – {high:.3g}"
    row = [Cell(f"{case['level']} {case['variant']}"), Cell(str(case["mode"]).replace("_", " + "))]
    row += [number(int(case[axis]), str(case[axis])) for axis in ("B", "T", "D")]
    n, threads = int(case.get("N", -1)), int(case.get("threads", run.meta.get("threads", 0)))
    row += [number(n, str(n) if n > 0 else "–"), Cell(str(case.get("view", "")) or "–"), number(threads, str(threads))]
    row.append(Cell(str(case.get("precision", run.config.get("run.gemm", "?")))))
    row.append(number(middle, f"{middle:.3g}" if timing else "–"))
    row.append(Cell(text if timing else "–", low, f"<span class=keep>{text}</span>" if timing else ""))
    row.append(number(rate, short(rate)))
    row.append(number(float(case["high_water"]), f"{case['high_water'] / MIB:.1f}"))
    return [*row, Cell(": ".join(filter(None, (str(case["state"]), str(case["reason"])))))]


def all_tables(runs: list[Run]) -> str:
    """Every case of every bench file; ops are in the figures only. Empty when nothing was timed."""
    rows = [_row(r, i) for r in runs if r.bench for i in range(len(r.bench["case"])) if r.bench["level"][i] != "op"]
    columns = [
        "what",
        "pass",
        "B",
        "T",
        "D",
        "N",
        "view",
        "threads",
        "precision",
        "median, ms",
        "quartiles, ms",
        "tokens per second",
    ]
    return table([*columns, "measured memory, MiB", "state"], rows) if rows else ""
