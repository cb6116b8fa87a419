"""One point of a sweep on its way to a results file."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import program, results
from .program import Point
from .words import clock, short


@dataclass
class Job:
    point: Point
    run_id: str
    out: Path
    state: str = "waiting"  # waiting, running, then a state of results.FINISHED or interrupted
    reason: str = ""
    process: subprocess.Popen | None = None
    device: str = ""  # which of the machine's GPUs it runs on, "" for all it sees
    started: float = 0.0
    ended: float = 0.0
    live: results.Run | None = field(default=None, repr=False)  # the result file as last read

    @property
    def path(self) -> Path:
        return self.out / f"{self.run_id}.h5"

    @property
    def checkpoint(self) -> Path:
        return self.out / f"{self.run_id}.ckpt.h5"

    @property
    def log(self) -> Path:
        return self.out / f"{self.run_id}.log"

    def command(self, threads: int) -> list[str]:
        words = [str(program.binary()), "train", *program.arguments(self.point), "--run.out", str(self.out)]
        return [*words, "--run.threads", str(threads)]

    def name(self, varying: list[str]) -> str:
        """The keys in which the points of this sweep differ."""
        said = {k: program.text(self.point[k]) for k in varying if k in self.point}
        return " ".join(v if k in ("variant", "layers") else f"{k}={v}" for k, v in said.items()) or self.run_id

    def fraction(self) -> float:
        """Part of the budget that is done: of the planned steps, or of train.steps or train.seconds; 0 when unknown."""
        if self.live is None or not self.live.train:
            return 0.0
        if self.live.steps_planned > 0:
            return min(1.0, self.live.total("step") / self.live.steps_planned)
        parts = [0.0]
        for key, column in (("train.seconds", "seconds"), ("train.steps", "step")):
            budget = self.live.config.get(key, 0)
            if isinstance(budget, (int, float)) and budget > 0:
                parts.append(self.live.total(column) / budget)
        return min(1.0, max(parts))

    def seconds_left(self) -> float:
        """From the part that is done, else the time budget of the point, else NaN."""
        if self.state not in ("waiting", "running"):
            return 0.0
        done = self.fraction()
        if self.state == "running" and done > 0.01:
            return (time.monotonic() - self.started) * (1 - done) / done
        budget = float(self.point.get("train.seconds") or "nan")
        return max(0.0, budget - (time.monotonic() - self.started)) if self.state == "running" else budget

    def progress(self) -> str:
        if self.live is None or not self.live.train:
            return "starting"
        loss, speed = self.live.train["loss"][-1], short(self.live.tokens_per_second())
        return f"{self.fraction():4.0%}  loss {loss:.3f}  {speed} tokens/s  {clock(self.seconds_left())} left"


def verdict(job: Job, code: int) -> tuple[str, str]:
    """(state, reason) of a job whose process ended with this exit code (negative: by that signal)."""
    if code == 0 and job.live is not None and job.live.state in results.FINISHED:
        return job.live.state, job.live.reason
    if code < 0:
        return "failed", f"killed by {signal.Signals(-code).name}; {job.log}"
    if job.live is not None and job.live.state == "failed":
        return "failed", job.live.reason
    try:
        said = [line.strip() for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        said = []
    more = f"; {job.log}" if len(said) > 1 else ""
    return "failed", (said[-1] if said else f"exit code {code} and no output") + more


def environment(threads: int, shared: bool, device: str = "") -> dict[str, str]:
    """What a run is started with; shared: other runs of the sweep are on the same machine."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if shared:
        env["OMP_PROC_BIND"] = "false"  # bound threads of two workers would share the first cores
    if device:
        env |= {"CUDA_VISIBLE_DEVICES": device, "HIP_VISIBLE_DEVICES": device}
    return env


def varying(points: list[Point]) -> list[str]:
    """Keys that tell the points apart, variant first; the variant alone when there is one point."""
    keys = list(dict.fromkeys(k for p in points for k in p))
    differ = [k for k in keys if len({program.text(p.get(k, "")) for p in points}) > 1]
    return sorted(differ, key=lambda k: k not in ("variant", "layers")) or ["variant", "layers"]
