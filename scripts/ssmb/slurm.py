"""Sweeps beyond one machine: every point is one task of a Slurm job array, submitted through submitit.

The folder of results must be on a file system that all nodes share. A task that is preempted, requeued or near its
time limit goes on from the run's checkpoint. `slurm.json` in the folder remembers which task a point became, so that a
sweep that is started again follows the tasks that are still queued or running instead of submitting them twice.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import results
from .jobs import Job, environment, verdict
from .program import ProgramError

POLL = 3.0  # seconds between two looks at squeue
LATE = 30.0  # seconds in which a shared file system shows what an ended task has written
LARGEST = 1000  # tasks of one array; Slurm's default MaxArraySize is 1001
SCRIPTS = Path(__file__).resolve().parents[1]


class RunPoint:
    """What a node does for one point. submitit pickles it, and pickles what `checkpoint` returns when it requeues."""

    def __call__(self, command: list[str], threads: int, log: str, code_file: str) -> int:
        def not_for_the_child() -> None:  # Slurm signals every process of a task, but it is us who decide
            for each in (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT):
                signal.signal(each, signal.SIG_IGN)

        with Path(log).open("a") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=not_for_the_child,
                env=environment(threads, shared=True),
            )  # fmt: skip
        code = self.child.wait()
        temporary = Path(code_file).with_suffix(".code.tmp")
        temporary.write_text(str(code))
        temporary.replace(code_file)
        return code

    def checkpoint(self, *arguments):
        from submitit.helpers import DelayedSubmission

        if child := self.__dict__.pop("child", None):
            child.kill()
            with contextlib.suppress(ChildProcessError):  # not child.wait(): this interrupts it and it holds a lock
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(self, *arguments)


def said_by_squeue(*words: str) -> dict[str, str]:
    """task id ("17_3") -> state, of this user's tasks that have not ended."""
    try:
        done = subprocess.run(
            ["squeue", "-h", "-r", "-o", "%i %T", *words], capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        raise ProgramError("squeue is not here: Slurm's commands are needed where a sweep submits from") from None
    except subprocess.TimeoutExpired:
        raise ProgramError("squeue does not answer") from None
    if done.returncode:
        raise ProgramError(f"squeue: {done.stderr.strip()}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def remembered(out: Path) -> dict[str, str]:
    """run id -> task id, of everything that was submitted from this folder."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((out / "slurm.json").read_text())
    return {}


def active(out: Path) -> dict[str, str]:
    """The remembered tasks that have not ended."""
    known = remembered(out)
    alive = said_by_squeue("--me") if known else {}
    return {run_id: task for run_id, task in known.items() if task in alive}


def code_file(job: Job) -> Path:
    return job.out / f"{job.run_id}.code"


def submit(jobs: list[Job], workers: int, threads: int, parameters: dict[str, str]) -> None:
    """Adds arrays of all jobs, at most `workers` tasks of each at a time, and remembers them."""
    try:
        import submitit
    except ImportError:
        raise ProgramError("--slurm needs the Python module submitit; scripts/bootstrap installs it") from None
    out = jobs[0].out
    try:
        executor = submitit.SlurmExecutor(folder=out / "slurm", max_num_timeout=1000, python=sys.executable)
        executor.update_parameters(**{
            "job_name": f"ssmbench-{out.name}", "time": 24 * 60, "cpus_per_task": threads, "signal_delay_s": 30,
            "array_parallelism": workers, "setup": [f"export PYTHONPATH={SCRIPTS}"], **parameters,
        })  # fmt: skip
    except (RuntimeError, ValueError) as e:
        raise ProgramError(f"--slurm: {e}") from None
    known = remembered(out)
    for first in range(0, len(jobs), LARGEST):
        some = jobs[first : first + LARGEST]
        for job in some:  # an old attempt must not be taken for this one
            for path in (job.path, job.log, code_file(job)):
                path.unlink(missing_ok=True)
        tasks = executor.map_array(
            RunPoint(), [j.command(threads) for j in some], [threads] * len(some),
            [str(j.log) for j in some], [str(code_file(j)) for j in some],
        )  # fmt: skip
        known |= {job.run_id: task.job_id for job, task in zip(some, tasks, strict=True)}
        temporary = out / "slurm.json.tmp"
        temporary.write_text(json.dumps(known))
        temporary.replace(out / "slurm.json")
        print(f"Slurm array {tasks[0].job_id.split('_')[0]}: {len(some)} tasks", flush=True)


class Followed:
    """Submitted jobs, watched through their files and squeue: the interface of runner.Pool."""

    def __init__(self, jobs: list[Job], workers: int, changed, tick):
        self.jobs, self.workers, self.changed, self.tick = jobs, workers, changed, tick
        self.tasks = remembered(jobs[0].out) if jobs else {}

    def seconds_left(self) -> float:
        left = [j.seconds_left() for j in self.jobs]
        return max(max(left, default=0.0), sum(left) / self.workers) if left else 0.0

    def run(self) -> None:
        """Returns when all jobs have ended. Ctrl-C leaves them to Slurm."""
        for job in self.jobs:
            job.state = "waiting"
        while any(j.state in ("waiting", "running") for j in self.jobs):
            alive = said_by_squeue("--me")
            for job in self.jobs:
                if job.state in ("waiting", "running"):
                    self._look(job, alive.get(self.tasks.get(job.run_id, "")))
            self.tick(self)
            time.sleep(POLL)

    def _look(self, job: Job, said: str | None) -> None:
        ended = code_file(job).exists()
        if job.path.exists():
            job.live = results.read(job.path)
        if job.state == "waiting" and (said == "RUNNING" or ended):
            job.state, job.started = "running", time.monotonic()
            self.changed(job)
        if ended:
            job.ended = time.monotonic()
            job.state, job.reason = verdict(job, int(code_file(job).read_text()))
            self.changed(job)
        elif said is not None:
            job.ended = 0.0
        elif not job.ended:
            job.ended = time.monotonic()
        elif time.monotonic() - job.ended > LATE:
            job.started = job.started or job.ended
            job.state, job.reason = "failed", f"Slurm ended task {self.tasks.get(job.run_id)}; {job.out / 'slurm'}"
            self.changed(job)


def parameters(words: list[str]) -> dict[str, str | int]:
    """`partition=gpu time=60` as submitit's keywords."""
    pairs = [word.partition("=") for word in words]
    for word, (key, _, value) in zip(words, pairs, strict=True):
        if not key or not value:
            raise ProgramError(f"--slurm {word}: what follows --slurm are KEY=VALUE pairs, e.g. partition=gpu time=60")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}
