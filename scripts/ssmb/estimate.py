"""How long a point will take, before it runs: the costs its ops declare over the rates this machine reaches.

A step takes at least  sum over ops and passes of max(flops / gemm rate, exps / exp rate, bytes / copy rate).  How far
real runs stay above that is learnt from those that have finished in the same folder; without any, the bound is given.
"""

import math
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from . import program, results
from .jobs import Job
from .program import ProgramError
from .results import Run
from .words import clock

CEILINGS = {"flops": "ceiling_gemm", "exps": "ceiling_exp", "bytes": "ceiling_copy"}
PASSES = ("forward", "backward")
Costs = list[tuple[str, dict[str, float]]]  # (forward or backward, {flops, exps, bytes}) of each op of a training step


def rates(run: Run) -> dict[str, float]:
    """Units per second, by kind of cost, of the ceilings in a results file of `bench`; empty when it has none."""
    said = {kind: run.timing.get(name) for kind, name in CEILINGS.items()}
    if not all(said.values()):
        return {}
    return {kind: _best(t) for kind, t in said.items()}


def product_rates(run: Run) -> dict[str, float]:
    """FLOPs per second of a matrix product, by the precisions that the ceilings of a results file of `bench` have."""
    found = {p: f"ceiling_gemm_{p}" for p in ("fp32", "tf32")} | {run.precision: "ceiling_gemm"}
    return {p: _best(run.timing[name]) for p, name in found.items() if name in run.timing}


def _best(ceiling: dict) -> float:
    return float(ceiling["work"]) / float(min(ceiling["seconds"]))


def measure_rates(variant: str, threads: int) -> dict[str, float]:
    """The ceilings of this machine, now: some seconds. Empty when the program cannot say."""
    smallest = ["--variants", variant, "--mode", "forward", "--B", "1", "--T", "16", "--D", "8", "--samples", "1"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.h5"
        try:
            program.call("bench", *smallest, "--no-check", "--run.threads", str(threads), "--out", str(file))
        except (ProgramError, program.BadInput):
            return {}
        return rates(results.read(file))


def described_costs(described: dict) -> Costs:
    return [(way, op[way]) for op in described.get("ops", []) for way in PASSES]


def recorded_costs(run: Run) -> Costs:
    return [
        (way, {kind: float(run.ops[f"{way}_{kind}"][i]) for kind in CEILINGS})
        for i in range(len(run.ops.get("op", ())))
        for way in PASSES
    ]


def bound(costs: Costs, rate: dict[str, float], way: str = "") -> float:
    """Seconds that a step cannot be faster than; NaN when nothing is known. way: of forward or backward alone."""
    if not costs or not rate:
        return math.nan
    return sum(max(cost[kind] / rate[kind] for kind in CEILINGS) for which, cost in costs if way in ("", which))


@dataclass
class Estimator:
    rate: dict[str, float]
    factors: dict[str, list[float]] = field(default_factory=dict)  # mixer -> measured over bound, of finished runs

    def learn(self, jobs: list[Job]) -> None:
        for job in jobs:
            run = job.live
            if run is None or run.state != "complete" or not run.total("step") > 0:
                continue
            least = bound(recorded_costs(run), self.rate) * run.total("step")
            if least > 0 and run.total("seconds") > 0:
                self.factors.setdefault(run.mixer, []).append(run.total("seconds") / least)

    def seconds(self, job: Job, described: dict) -> tuple[float, bool]:
        """(seconds of training and evaluation, whether that is only a lower bound); NaN when nothing can be said."""
        budget = float(job.point.get("train.seconds") or 0)
        config, costs = described.get("config", {}), described_costs(described)
        mixer = str(job.point.get("variant", job.point.get("layers", "")))
        known = self.factors.get(mixer) or [f for each in self.factors.values() for f in each]
        factor = statistics.median(known) if known else 1.0
        step = bound(costs, self.rate) * factor * float(config.get("train.accumulate", 1))
        training = float(config.get("train.steps", "nan")) * step
        if budget > 0:
            steps, training = budget / step if step > 0 else math.nan, min(budget, training) if step > 0 else budget
        else:
            steps = float(config.get("train.steps", "nan"))
        evaluation = bound(costs, self.rate, "forward") * factor * self._batches(config, steps)
        return training + (evaluation if evaluation == evaluation else 0.0), not known and budget <= 0

    @staticmethod
    def _batches(config: dict, steps: float) -> float:
        """Forward passes of a training batch's size that all evaluations together take."""
        value = {k: float(config.get(f"train.{k}", "nan")) for k in ("eval_every", "eval_examples", "test_examples")}
        return (steps / value["eval_every"] * value["eval_examples"] + value["test_examples"]) / float(
            config.get("train.batch", "nan")
        )


def said(seconds: float, least: bool) -> str:
    return ("≥ " if least and seconds == seconds else "") + clock(seconds)
