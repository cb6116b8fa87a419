"""Results as plain tables: rows of dicts, and how they are written."""

import csv
import importlib.util
from pathlib import Path

import numpy as np

from .effects import ablation
from .program import BadInput
from .results import Run
from .series import group

Table = list[dict]
PYARROW = "pyarrow==26.0.1"


def runs_table(runs: list[Run]) -> Table:
    """One row per run: what it was, what it scored, what it cost."""
    rows = []
    for r in runs:
        final = r.last_eval()
        row = {"run_id": r.run_id, "state": r.state, "reason": r.reason, "task": r.task_name, "mixer": r.mixer}
        row |= {"seed": r.seed, "created": r.created, "version": r.version, "device": r.device}
        row |= {"metric": r.metric, "score": final.get("metric"), "examples": final.get("examples")}
        row |= {column: r.total(column) for column in ("step", "tokens_real", "seconds")}
        row |= {"tokens_per_second": r.tokens_per_second(), "flops_per_step": r.flops_per_step()}
        row |= {"parameters": r.model.get("parameters")}
        row |= {f"planned.{k}": v for k, v in r.planned_bytes().items()}
        row |= {f"measured.{k}": v for k, v in r.measured_bytes().items()}
        row |= {f"slice.{k}": v for k, v in r.last_slices().items()} | {f"config.{k}": v for k, v in r.config.items()}
        rows.append(row)
    return rows


def _columns(runs: list[Run], of: str) -> Table:
    """The rows of /train, /eval or /bench of every run, each with its run id."""
    rows = []
    for r in runs:
        columns = {k: v.tolist() for k, v in getattr(r, of).items()}
        rows += [
            {"run_id": r.run_id} | dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
    return rows


def timing_table(runs: list[Run]) -> Table:
    return [
        {"run_id": r.run_id, "file": r.path.name, "phase": phase, "sample": i, "seconds": float(s)}
        for r in runs
        for phase, timing in r.timing.items()
        for i, s in enumerate(np.atleast_1d(timing["seconds"]))
    ]


def ablation_table(runs: list[Run]) -> Table:
    rows, series = [], group([r for r in runs if r.evals and r.kind == "train"])
    for task in dict.fromkeys(s.task for s in series):
        base, effects = ablation([s for s in series if s.task == task])
        for e in effects:
            row = {"task": task, "base": base.label, "change": e.change, "seeds": e.seeds, "mean": e.mean}
            row |= {"deviation": e.deviation, "low": e.low, "high": e.high, "difference": e.difference}
            row |= {"difference_low": e.difference_low, "difference_high": e.difference_high, "paired": e.paired}
            rows.append(row | {"doubt": e.mark})
    return rows


def tables(runs: list[Run]) -> dict[str, Table]:
    """Every table that has rows, by its file's stem."""
    found = {"runs": runs_table(runs), "train": _columns(runs, "train"), "eval": _columns(runs, "evals")}
    found |= {"bench": _columns(runs, "bench"), "timing": timing_table(runs), "ablation": ablation_table(runs)}
    return {name: rows for name, rows in found.items() if rows}


def columns_of(rows: Table) -> list[str]:
    return list(dict.fromkeys(k for row in rows for k in row))


def write_csv(path: Path, rows: Table) -> None:
    """Empty where a row has no value, as NaN is: pandas and R read both as missing."""
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, columns_of(rows), restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if v is None or v != v else v for k, v in row.items()})


def write_parquet(path: Path, rows: Table) -> None:
    """A column whose rows disagree in type (a key that is a number here and a word there) becomes text."""
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput(f"Parquet needs pyarrow (55 MB, hence not installed by bootstrap): pip install {PYARROW}")
    import pyarrow
    import pyarrow.parquet

    columns = {}
    for name in columns_of(rows):
        values = [row.get(name) for row in rows]
        kinds = {type(v) for v in values if v is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [None if v is None else str(v) for v in values]
        columns[name] = [float(v) if kinds == {int, float} and v is not None else v for v in values]
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


WRITERS = {"csv": write_csv, "parquet": write_parquet}
