"""A comparison as a results file in the project's schema: PyTorch's side is /timing/peer_*, table /peer, @peer_*."""

import hashlib
import json
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from peer import Peer

from ssmb import results
from ssmb.program import Point


def best(peers: list[Peer], phase: str = "train_step") -> Peer | None:
    """The fastest that has samples."""
    return min((p for p in peers if p.seconds.get(phase)), key=lambda p: p.median(phase), default=None)


def _timing(f: h5py.File, name: str, seconds: list[float], **attributes) -> None:
    data = f.create_dataset(f"timing/{name}", data=np.asarray(seconds, dtype=float))
    data.attrs.update(units="s", **attributes)


def _table(f: h5py.File, peers: list[Peer]) -> None:
    text = {"mode": [p.mode for p in peers], "state": ["failed" if p.failed else "ok" for p in peers]}
    text |= {"reason": [p.failed for p in peers], "scan": [p.facts.get("scan", "") for p in peers]}
    for name, column in text.items():
        f.create_dataset(f"peer/{name}", data=column, dtype=h5py.string_dtype())
    for name in ("allocated", "reserved", "peak_rss"):
        column = f.create_dataset(f"peer/{name}", data=[p.memory.get(name, 0) or -1 for p in peers])
        column.attrs["units"] = "B"
    setup = f.create_dataset("peer/setup", data=[p.facts.get("setup", np.nan) for p in peers])
    setup.attrs["units"] = "s"


def write(m: dict, peers: list[Peer], keys: Point, a: Namespace) -> Path:
    """m: seconds, rss and run of our side. Returns the path, which the same comparison always has."""
    run, fastest = m["run"], best(peers)
    said = json.dumps(keys | {"device": a.device, "modes": list(a.modes)}, sort_keys=True)
    run_id = "peer-" + hashlib.sha256(said.encode()).hexdigest()[:12]
    path = a.out / f"{run_id}.h5"
    temporary = path.with_suffix(".tmp")
    a.out.mkdir(parents=True, exist_ok=True)
    meta, memory = {"peer_gemm": a.precision}, {"rss": m["rss"]}
    model = {}
    if fastest:
        meta["peer"] = fastest.facts["version"]
        model["peer_parameters"] = fastest.facts["parameters"]
        memory |= {"peer_rss": fastest.memory["peak_rss"], "peer_start_rss": fastest.facts["start_rss"]}
        if fastest.memory["allocated"]:
            memory["peer_high_water"] = fastest.memory["allocated"]
    with h5py.File(temporary, "w") as f:
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        f.attrs.update(schema=results.SCHEMA, run_id=run_id, created=created)
        f.create_group("meta").attrs.update(run.meta | meta)
        f.create_group("config").attrs.update(run.config)
        f.create_group("model").attrs.update(run.model | model)
        f.create_group("task").attrs.update(run.task)
        f.create_group("memory").attrs.update(run.memory | memory)
        how = {"method": f"steady clock around {a.every} steps, device waited for, per step", "warmup": a.every}
        _timing(f, "train_step", m["seconds"], **how)
        for peer in peers:
            if not peer.seconds:
                continue
            every = peer.facts["every"]
            how = {"method": f"steady clock around {every} steps, device waited for, per step", "mode": peer.mode}
            for name in [f"peer_{peer.mode}"] + ["peer_train_step"] * (peer is fastest):
                _timing(f, name, peer.seconds["train_step"], **how)
        f["timing"].attrs.update(run.how)
        _table(f, peers)
        f.create_group("status").attrs.update(state="complete", reason="")
    temporary.rename(path)
    return path
