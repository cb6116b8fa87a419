"""Comparisons of parts as one results file in the project's schema: raw samples in /timing, a row of /versus each."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from peer import Peer
from peer_record import best

from ssmb import results

TEXT = (
    "what",
    "phase",
    "variant",
    "precision",
    "device",
    "ours",
    "theirs",
    "mode",
    "version",
    "kernel",
    "state",
    "reason",
)
NUMBERS = ("B", "T", "D", "N")


@dataclass
class Part:
    """What is compared: one phase of one operation or one token of one mixer, at one size."""

    what: str
    phase: str
    variant: str
    shape: tuple[int, int, int, int]  # B, T, D, N; N -1: the variant has none
    precision: str
    device: str
    ours: list[float] = field(default_factory=list)  # seconds
    reason: str = ""  # why ours has none

    @property
    def name(self) -> str:
        b, t, d, n = self.shape
        return f"{self.what}.{self.phase}.{self.precision}.B{b}.T{t}.D{d}" + (f".N{n}" if n >= 0 else "")


def row(part: Part, peers: list[Peer]) -> dict:
    """Of /versus."""
    fastest = best(peers, part.phase)
    failed = "; ".join(f"{p.mode}: {p.failed}" for p in peers if p.failed)
    state = "failed" if part.reason else "ok" if fastest else "no peer"
    out = {key: getattr(part, key) for key in ("what", "phase", "variant", "precision", "device")}
    out |= {"ours": part.name if part.ours else "", "theirs": f"peer_{part.name}" if fastest else "", "state": state}
    out |= {"mode": fastest.mode if fastest else "", "version": fastest.facts["version"] if fastest else ""}
    out |= {"kernel": fastest.facts["scan"] if fastest else "", "reason": part.reason or failed}
    return out | dict(zip(NUMBERS, part.shape, strict=True))


class Versus:
    """The file of one command; `said` identifies it: what it compares on which device."""

    def __init__(self, folder: Path, kind: str, said: dict):
        self.run_id = f"{kind}-" + hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
        self.path, self.rows, self.timings = folder / f"{self.run_id}.h5", [], {}
        self.run: results.Run | None = None  # a run of ours, for /meta and /config

    def add(self, part: Part, peers: list[Peer], run: results.Run | None) -> dict:
        """Takes a part in and writes the file. Returns its row."""
        self.run = run or self.run
        said = row(part, peers)
        self.rows.append(said)
        if part.ours:
            self.timings[part.name] = (part.ours, {"method": run.timing[next(iter(run.timing))].get("method", "")})
        for peer in peers:
            for name in [f"peer_{peer.mode}_{part.name}"] + [f"peer_{part.name}"] * (peer.mode == said["mode"]):
                if peer.seconds.get(part.phase):
                    how = {"mode": peer.mode, "calls_per_sample": peer.facts["every"]}
                    self.timings[name] = (peer.seconds[part.phase], how)
        self.write()
        return said

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with h5py.File(temporary, "w") as f:
            created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            f.attrs.update(schema=results.SCHEMA, run_id=self.run_id, created=created)
            f.create_group("meta").attrs.update(self.run.meta if self.run else {})
            f.create_group("config").attrs.update(self.run.config if self.run else {})
            for name in TEXT:
                f.create_dataset(f"versus/{name}", data=[r[name] for r in self.rows], dtype=h5py.string_dtype())
            for name in NUMBERS:
                f.create_dataset(f"versus/{name}", data=[r[name] for r in self.rows])
            for name, (seconds, attributes) in self.timings.items():
                data = f.create_dataset(f"timing/{name}", data=np.asarray(seconds, dtype=float))
                data.attrs.update(units="s", **attributes)
            f.create_group("status").attrs.update(state="complete", reason="")
        temporary.rename(self.path)


COLUMNS = ("ours, µs", "theirs, µs", "time ratio", "mode")


def title(width: int) -> str:
    return f"{'':<{width}}" + "".join(f"{c:>14}" for c in COLUMNS)


def line(part: Part, peers: list[Peer], width: int) -> str:
    """Medians and their ratio; then what failed."""
    fastest, ours = best(peers, part.phase), 1e6 * float(np.median(part.ours)) if part.ours else None
    theirs = 1e6 * fastest.median(part.phase) if fastest else None
    row = [f"{ours:.2f}" if ours else "", f"{theirs:.2f}" if theirs else ""]
    row += [f"{theirs / ours:.2f}" if ours and theirs else "", fastest.mode if fastest else ""]
    text = f"{part.name:<{width}}" + "".join(f"{c:>14}" for c in row)
    if part.reason:
        text += f"\n    ours: {part.reason}"
    for peer in peers:
        if peer.failed:
            text += f"\n    {peer.mode}: {peer.failed}"
        elif peer is not fastest and peer.seconds.get(part.phase):
            text += f"\n    {peer.mode}: {1e6 * peer.median(part.phase):.2f} µs"
    if fastest and fastest.facts["scan"] not in ("", "PyTorch"):
        text += f"\n    theirs: {fastest.facts['scan']}"
    return text
