"""What a sweep shows: a live table on a terminal, plain lines elsewhere; the table of a dry run."""

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from . import estimate, program
from .jobs import Job, varying
from .runner import Pool
from .words import clock, short

PLAIN_EVERY = 30.0  # seconds between progress lines when the output is not a terminal
COLOUR = {
    "complete": "green",
    "failed": "red",
    "diverged": "yellow",
    "skipped": "yellow",
    "interrupted": "red",
    "running": "cyan",
}


class Screen:
    """Context manager around Pool.run: give its `changed` and `tick` to the pool."""

    def __init__(self, jobs: list[Job]):
        self.jobs, self.console, self.last = jobs, Console(highlight=False), 0.0
        self.names = varying([j.point for j in jobs]) if jobs else []
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None

    def __enter__(self):
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live:
            self.live.stop()

    def changed(self, job: Job) -> None:
        """One line per start and per end; it stays on the screen."""
        if job.state == "running":
            if not self.live:
                self._print(f"start     {job.name(self.names)}  {job.run_id}")
            return
        score = job.live.last_eval().get("metric") if job.live else None
        result = f"{job.live.metric} {score:.4f}" if score is not None else ""
        took = clock(job.ended - job.started)
        self._print(f"{job.state:<9} {job.name(self.names)}  {job.run_id}  {took}  {result}  {job.reason}".rstrip())

    def tick(self, pool: Pool) -> None:
        done = sum(j.state not in ("waiting", "running") for j in self.jobs)
        total = f"{done} of {len(self.jobs)} done, about {clock(pool.seconds_left())} left"
        if self.live:
            table = Table(title=total, title_justify="left", box=None, padding=(0, 2, 0, 0))
            for column in ("point", "run id", "state", "progress"):
                table.add_column(column)
            for job in self.jobs:
                if job.state == "running":
                    table.add_row(job.name(self.names), job.run_id, f"[{COLOUR['running']}]running[/]", job.progress())
            self.live.update(table, refresh=True)
        elif time.monotonic() - self.last >= PLAIN_EVERY:
            self.last = time.monotonic()
            for job in self.jobs:
                if job.state == "running" and job.live:
                    self._print(f"          {job.name(self.names)}  {job.progress()}  ({total})")

    def _print(self, line: str) -> None:
        word = line.split(" ", 1)[0]
        self.console.print(line, style=COLOUR.get(word) if self.live else None, markup=False, soft_wrap=True)


def _number(described: dict, name: str) -> float:
    """A number that the program described (dots descend), NaN where it says null."""
    value = described
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _tokens(point: program.Point, described: dict) -> str:
    """Tokens of all steps; a time budget may end the run before."""
    limit = "≤ " if float(point.get("train.seconds") or 0) > 0 else ""
    return limit + short(_number(described, "tokens"))


def dry_run(jobs: list[Job], workers: int, threads: int) -> None:
    """Every point with what the program plans for it, and how long it will take."""
    names = varying([j.point for j in jobs])
    variant = str(jobs[0].point.get("variant") or str(jobs[0].point.get("layers")).split(",")[0].split("*")[0])
    estimator = estimate.Estimator(estimate.measure_rates(variant, threads))
    estimator.learn(jobs)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("point", "run id", "parameters", "memory (MiB)", "state (B/seq)", "padded tokens", "time", "has"):
        table.add_column(column, justify="left" if column in ("point", "run id", "has") else "right", no_wrap=True)
    total, bounds = 0.0, False
    for job, d in zip(jobs, program.describe_all([j.point for j in jobs]), strict=True):
        seconds, least = estimator.seconds(job, d)
        if job.state == "waiting":
            total, bounds = total + seconds, bounds or least
        table.add_row(
            job.name(names), job.run_id, f"{_number(d, 'parameter_count'):,.0f}",
            f"{_number(d, 'memory.total') / 2**20:,.1f}", f"{_number(d, 'state_bytes_per_sequence'):,.0f}",
            _tokens(job.point, d), estimate.said(seconds, least),
            "nothing yet" if job.state == "waiting" else job.state,
        )  # fmt: skip
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)
    waiting = sum(j.state == "waiting" for j in jobs)
    left = estimate.said(total / workers, bounds)
    console.print(f"{len(jobs)} points, {sum(j.state == 'complete' for j in jobs)} complete, {waiting} to run, {left}")
    if bounds:
        console.print("time: the declared work at the best rates of this machine; it gets better with finished runs")
