"""Local workers: every point is one process of the program, so a crash, a kill or a full disk costs one run.

Children live in their own sessions, hence Ctrl-C reaches only this process, which then stops them: SIGTERM, ten
seconds, SIGKILL. When this process itself is killed the kernel kills them with it, and they hold the folder's lock
until they are gone: the next sweep never writes beside an orphan.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from . import results
from .jobs import Job, environment, verdict
from .program import ProgramError

GRACE = 10.0  # seconds between SIGTERM and SIGKILL
ORPHANS = 5.0  # seconds that the runs of a killed sweep are given to disappear
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
libc = ctypes.CDLL(None)


@contextmanager
def locked(folder: Path):
    """The right to write to a folder of results, as a file descriptor that every child inherits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".sweep.lock").open("w") as lock:
        deadline = time.monotonic() + ORPHANS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ProgramError(f"another sweep is writing to {folder}") from None
                time.sleep(0.1)
        yield lock.fileno()


class Pool:
    """Runs jobs on n workers; `changed` is called with a job whenever it starts or ends, `tick` about once a second."""

    def __init__(self, jobs: list[Job], workers: int, threads: int, lock: int, devices=(), changed=None, tick=None):
        self.jobs, self.workers, self.threads, self.lock, self.devices = jobs, workers, threads, lock, devices
        self.changed, self.tick = changed, tick

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
                time.sleep(0.05)
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _start(self) -> None:
        running = [j for j in self.jobs if j.state == "running"]
        for job in self.jobs:
            if len(running) >= self.workers:
                return
            if job.state != "waiting":
                continue
            if self.devices:
                job.device = min(self.devices, key=[j.device for j in running].count)
            job.started, job.live = time.monotonic(), None
            try:
                self._launch(job)
                job.state = "running"
                running.append(job)
            except OSError as e:
                job.state, job.reason, job.ended = "failed", f"could not be started: {e}", time.monotonic()
            self.changed(job)

    def _launch(self, job: Job) -> None:
        def die_with_the_sweep() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        job.path.unlink(missing_ok=True)  # an old attempt must not be taken for this one
        with job.log.open("w") as log:
            job.process = subprocess.Popen(
                job.command(self.threads), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=environment(self.threads, self.workers > 1, job.device), pass_fds=[self.lock],
                preexec_fn=die_with_the_sweep,
            )  # fmt: skip

    def _collect(self) -> None:
        for job in self.jobs:
            if job.state != "running" or job.process.poll() is None:
                continue
            job.ended = time.monotonic()
            job.live = results.read(job.path) if job.path.exists() else None
            job.state, job.reason = verdict(job, job.process.returncode)
            self.changed(job)

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
