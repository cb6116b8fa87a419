"""Local workers: every point is one process of the program, so a crash costs one run.

Children live in their own sessions, hence Ctrl-C reaches only this process, which then stops them: SIGTERM, ten
seconds, SIGKILL.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import program, results
from .program import Point
from .words import clock, short

GRACE = 10.0  # seconds between SIGTERM and SIGKILL


@dataclass
class Job:
    point: Point
    run_id: str
    out: Path
    state: str = "waiting"  # waiting, running, then a state of results.FINISHED or interrupted
    reason: str = ""
    process: subprocess.Popen | None = None
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


def varying(points: list[Point]) -> list[str]:
    """Keys that tell the points apart, variant first; the variant alone when there is one point."""
    keys = list(dict.fromkeys(k for p in points for k in p))
    differ = [k for k in keys if len({program.text(p.get(k, "")) for p in points}) > 1]
    return sorted(differ, key=lambda k: k not in ("variant", "layers")) or ["variant", "layers"]


class Pool:
    """Runs jobs on n workers; `changed` is called with a job whenever it starts or ends, `tick` about once a second."""

    def __init__(self, jobs: list[Job], workers: int, threads: int, changed, tick):
        self.jobs, self.workers, self.threads, self.changed, self.tick = jobs, workers, threads, changed, tick

    def seconds_left(self) -> float:
        left = [j.seconds_left() for j in self.jobs]
        return max(max(left, default=0.0), sum(left) / self.workers) if left else 0.0

    def run(self) -> None:
        """Returns when all jobs have ended. KeyboardInterrupt, also made from SIGTERM, stops the children."""
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            last = 0.0
            while any(j.state in ("waiting", "running") for j in self.jobs):
                self._start()
                self._collect()
                if time.monotonic() - last >= 1.0:
                    last = time.monotonic()
                    for job in self.jobs:
                        if job.state == "running" and job.path.exists():
                            job.live = results.read(job.path)
                    self.tick(self)
                time.sleep(0.1)
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _start(self) -> None:
        running = sum(j.state == "running" for j in self.jobs)
        for job in self.jobs:
            if running >= self.workers:
                return
            if job.state != "waiting":
                continue
            job.path.unlink(missing_ok=True)  # an old attempt must not be taken for this one
            words = [str(program.binary()), "train", *program.arguments(job.point), "--run.out", str(job.out)]
            words += ["--run.threads", str(self.threads)]
            env = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            if self.workers > 1:
                env["OMP_PROC_BIND"] = "false"  # bound threads of two workers would share the first cores
            with job.log.open("w") as log:
                job.process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
                )
            job.state, job.started, job.live = "running", time.monotonic(), None
            running += 1
            self.changed(job)

    def _collect(self) -> None:
        for job in self.jobs:
            if job.state != "running" or job.process.poll() is None:
                continue
            job.ended = time.monotonic()
            job.live = results.read(job.path) if job.path.exists() else None
            job.state, job.reason = self._verdict(job)
            self.changed(job)

    def _verdict(self, job: Job) -> tuple[str, str]:
        code = job.process.returncode
        if code == 0 and job.live is not None and job.live.state in results.FINISHED:
            return job.live.state, job.live.reason
        if code < 0:
            return "failed", f"killed by {signal.Signals(-code).name}; {job.log}"
        if job.live is not None and job.live.state == "failed":
            return "failed", job.live.reason
        said = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
        return "failed", (said[-1].strip() if said else f"exit code {code} and no output") + (
            f"; {job.log}" if len(said) > 1 else ""
        )

    def stop(self) -> None:
        running = [j for j in self.jobs if j.state == "running"]
        for job in running:
            os.killpg(job.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for job in running:
            try:
                job.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()
            job.state, job.reason, job.ended = "interrupted", "stopped by the user", time.monotonic()
