"""What scripts/peers/ops and scripts/peers/decode share: rounds of our bench and of processes that wait between."""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import our_bench
import versus
from peer import Peer

from ssmb import results, venv
from ssmb.program import BadInput, Point, ProgramError

WIDTH = 62


@dataclass
class Job:
    """One process of ours and the others' processes beside it; `ends`: of a phase, the endings of the entries of
    /timing whose samples are added."""

    parts: list[versus.Part]
    point: Point
    ends: dict[str, tuple[str, ...]]
    peers: list[Peer]


def measure(job: Job, a: argparse.Namespace) -> results.Run | None:
    """Rounds of both sides in turn. Returns the last run of ours, None where it was refused."""
    run = None
    for turn in range(a.rounds):
        if not any(part.reason for part in job.parts):
            try:
                run = our_bench.bench(job.point, checked=turn == 0)
                for part in job.parts:
                    samples = [our_bench.seconds_of(run, end) for end in job.ends[part.phase]]
                    part.ours += [sum(s) for s in zip(*samples, strict=True)]
            except (ProgramError, OSError) as e:
                for part in job.parts:
                    part.reason, part.ours = str(e), []
        for peer in job.peers:
            peer.round(a.samples, a.setup_seconds)
    return run


def together(jobs: list[Job], file: versus.Versus, a: argparse.Namespace) -> int:
    """Sets the others' processes of these jobs up at the same time, then measures one job after another. Returns how
    many our program could not do."""
    peers = [peer for job in jobs for peer in job.peers]
    deadline, failed = time.monotonic() + a.setup_seconds, 0
    try:
        for peer in peers:
            peer.start(max(1, (os.cpu_count() or 1) // len(peers)))
        for peer in peers:
            peer.wait(deadline)
        for job in jobs:
            run = measure(job, a)
            for peer in job.peers:
                peer.close()
            for part in job.parts:
                file.add(part, job.peers, run)
                print(versus.line(part, job.peers, WIDTH), flush=True)
            failed += any(part.reason for part in job.parts)
    finally:
        for peer in peers:
            peer.close()
    return failed


def compare(kind: str, jobs: list[Job], a: argparse.Namespace, said: dict) -> int:
    """All jobs, one after another. Returns the exit code: 1 where ours has no time."""
    if a.peer_python.parent != Path(".") and not a.peer_python.exists():
        raise BadInput(f"no Python at {a.peer_python}; scripts/peers/compare --help says how to make one with PyTorch")
    file, size = versus.Versus(a.out, kind, said | {"device": a.device}), a.at_once or (1 if a.device == "cpu" else 4)
    print(versus.title(WIDTH), flush=True)
    failed = sum(together(jobs[i : i + size], file, a) for i in range(0, len(jobs), size))
    print(
        f"medians of {a.rounds} rounds of {a.samples}; ratio: theirs / ours, above 1 means ours is faster; {file.path}"
    )
    return 1 if failed else 0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", nargs="+", choices=["fp32", "tf32"], default=["fp32"], help="of matrix products")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20, help="of each side in a round")
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    parser.add_argument("--at-once", type=int, help="comparisons whose other sides get ready at the same time")
    parser.add_argument(
        "--setup-seconds", type=float, default=300, help="the others' time to get ready, and for a round"
    )
    parser.add_argument("--peer-python", type=Path, default=venv.ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--out", type=Path, default=venv.ROOT / "results" / "peers")


def checked(a: argparse.Namespace) -> argparse.Namespace:
    if "tf32" in a.precision and a.device == "cpu":
        raise BadInput("--precision tf32: there is none on a CPU; allowed is fp32")
    return a
