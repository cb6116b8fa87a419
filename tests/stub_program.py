"""Stands in for the ssmbench binary in tests of the scripts: its command line, three variants, training in moments.

A training step of mamba at T 1024 kills the benchmark, one of brand_new at T 512 is skipped, one at T 4096 never ends.
By seed: 7 is refused by the program (exit 2), 8 diverges, 9 is skipped, 10 kills itself half-way, 11 exits with 1,
12 never ends.
"""

import hashlib
import itertools
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

SHA = os.environ.get("STUB_SHA", "a" * 40)
KEYS = {
    "train.steps": ("integer", 100, 1, 1e9),
    "train.seconds": ("real", 0, 0, 1e9),
    "model.d_model": ("integer", 64, 1, 8192),
    "seed": ("integer", 0, 0, 2**31),
    "seed.init": ("integer", 0, 0, 2**31),
    "run.threads": ("integer", 0, 0, 4096),
    "run.out": ("text", "results", None, None),
}
OP = {"op": "linear"} | {way: {"flops": 1e9, "exps": 0, "bytes": 1e6} for way in ("forward", "backward")}
KNOB = {"name": "d_state", "type": "integer", "default": 16, "values": [16, 64], "lo": 1, "hi": 4096}
INIT = {"name": "init", "type": "text", "default": "lin", "values": ["lin", "inv", "legs"]}
REFERENCES = [("chance", "uniform guess", 0.1, "1 / 10"), ("floor", "root operator", 0.361, "counted")]
REFERENCES += [("ladder", f"top {k} levels", v, "computed") for k, v in enumerate((0.36, 0.6, 0.75))]


def registry() -> dict:
    keys = [{"name": n, "type": t, "default": d, "lo": lo, "hi": hi} for n, (t, d, lo, hi) in KEYS.items()]
    task = {
        "name": "listops",
        "about": "",
        "keys": [{"name": "depth", "type": "integer", "default": 10, "lo": 3, "hi": 20}],
    }
    return {
        "variants": [{"name": n, "about": "", "knobs": [KNOB, INIT]} for n in ("s4d", "mamba", "brand_new")],
        "tasks": [task, {"name": "induction", "about": "", "keys": []}],
        "keys": keys,
        "git_sha": SHA,
    }


def result(point: dict, path: Path, state: str, reason: str) -> None:
    """A results file as results/README.md describes it."""
    import h5py
    import numpy as np

    seed, steps = int(point.get("seed", 0)), int(point.get("train.steps", 100))
    score = 0.30 + 0.04 * len(point["variant"]) + 0.001 * seed
    temporary = path.with_suffix(".tmp")
    with h5py.File(temporary, "w") as f:
        f.attrs.update(schema="ssmbench/1", run_id=path.stem, created=f"2025-01-01T00:00:{seed:02d}Z")
        f.create_group("meta").attrs.update(
            git_sha=SHA, git_dirty=np.bool_(False), cpu="test", device="", real="float", argv="x"
        )
        short = {"variant": "model.variant", "depth": "model.depth", "seed": "seed.init"}
        config = {short.get(k, k): v for k, v in point.items()} | {"train.steps": steps}
        f.create_group("config").attrs.update(config)
        f.create_group("model").attrs.update(parameters=1000, bytes_params=4000, bytes_activations=10**6)
        f.create_group("memory").attrs.update(high_water=1004000, rss=5 * 10**7)
        f.create_group("task").attrs.update(metric="accuracy")
        for i, name in enumerate(("kind", "label", "value", "source")):
            column = [r[i] for r in REFERENCES]
            f.create_dataset(f"task/references/{name}", data=column, dtype=None if i == 2 else h5py.string_dtype())
        f.create_dataset("model/ops/op", data=["linear"], dtype=h5py.string_dtype())
        for way in ("forward", "backward"):
            for kind, cost in OP[way].items():
                f[f"model/ops/{way}_{kind}"] = [float(cost)]
        at = np.arange(1, 11)
        columns = {"step": at * steps // 10, "tokens_real": at * 1000, "seconds": at * 0.1, "loss": 2.3 - at * 0.1}
        for name, column in columns.items():
            f[f"train/{name}"] = column
        last = 0.0 if state == "running" else 1.0
        rows = {
            "step": [steps // 2, steps],
            "tokens_real": [5000, 10000],
            "seconds": [0.5, 1.0],
            "examples": [500, 2000],
        }
        rows |= {
            "loss": [1.5, 1.4],
            "metric": [score - 0.05, score],
            "root=MIN": [0.5, 0.6 * last],
            "root=MAX": [0.5, np.nan],
        }
        for name, column in rows.items():
            f[f"eval/{name}"] = column
        f.create_dataset("eval/split", data=["validation", "test"], dtype=h5py.string_dtype())
        timing = f.create_dataset("timing/train_step", data=[9.0, 0.25, 0.25])
        timing.attrs.update(units="s")
        f["timing"].attrs["step_path"] = "eager: no graphs on this backend"
        f.create_group("status").attrs.update(state=state, reason=reason)
    temporary.rename(path)


def train(point: dict) -> int:
    seed, out = int(point.get("seed", 0)), Path(point.pop("run.out"))
    point.pop("run.threads")
    path = out / f"{run_id(point)}.h5"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        print(f"device {os.environ['CUDA_VISIBLE_DEVICES']}")
    result(point, path, "running", "")
    if seed == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 11:
        print("cannot write: disk is full", file=sys.stderr)
        return 1
    while seed == 12:
        time.sleep(0.1)
    state, reason = {8: ("diverged", "loss is not finite"), 9: ("skipped", "needs 1 TiB")}.get(seed, ("complete", ""))
    result(point, path, state, reason)
    return 0


def bench(point: dict) -> int:
    """Ceilings of a made-up machine: 1e9 of everything in a second; or training steps of T microseconds."""
    import h5py
    import numpy as np

    with h5py.File(point["out"], "w") as f:
        f.attrs.update(schema="ssmbench/1", run_id="bench", created="2025-01-01T00:00:00Z")
        f.create_group("config").attrs.update({"model.layers": point["variants"]})
        for name in ("gemm", "exp", "copy"):
            f.create_dataset(f"timing/ceiling_{name}", data=np.array([1.0, 2.0])).attrs.update(work=1e9)
        steps(point, f) if point.get("level") == "step" else None
        f.create_group("status").attrs.update(state="complete", reason="")
    return 0


def steps(point: dict, f) -> None:
    """/bench of one variant, the product of mode, B and T but for what the filter leaves out."""
    import h5py

    variant, rows = point["variants"], []
    f.create_group("meta").attrs.update(cpu="test", device="", threads=1)
    for mode, b, t in itertools.product(point["mode"].split(","), point["B"].split(","), point["T"].split(",")):
        b, t = int(b), int(t)
        case = f"step.{variant}.{mode}.B{b}.T{t}.D{point['D']}"
        row = {"case": case, "level": "step", "variant": variant, "mode": mode, "B": b, "T": t, "D": 8}
        row |= {"tokens": b * t, "flops": 1.0, "exps": 1.0, "bytes": 1.0, "high_water": 2**20}
        if not re.search(point["benchmark"].removeprefix("--benchmark_filter="), case):
            row |= {"state": "skipped", "reason": "left out by the benchmark filter"}
        elif variant == "mamba" and mode == "train" and t == 1024:
            os.kill(os.getpid(), signal.SIGKILL)
        elif variant == "brand_new" and t == 4096:
            signal.pause()
        elif variant == "brand_new" and t == 512:
            row |= {"state": "skipped", "reason": "needs 9 MiB, the device has 1 MiB free"}
        else:
            row |= {"state": "ok", "reason": ""}
            f[f"timing/{case}"] = [1e-6 * t] * 3
        rows.append(row)
    for name in rows[0]:
        kind = h5py.string_dtype() if isinstance(rows[0][name], str) else None
        f.create_dataset(f"bench/{name}", data=[r[name] for r in rows], dtype=kind)


def run_id(point: dict) -> str:
    said = json.dumps({k: v for k, v in point.items() if not k.startswith("run.")}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def described_as(point: dict) -> dict:
    """Parameters grow with the square of the width, twice as fast for mamba; the state grows with the width."""
    width = int(point.get("model.d_model", 0))
    config = {"train.steps": "100", "train.batch": "10", "train.eval_every": "50", "train.eval_examples": "100"}
    return {
        "parameter_count": width**2 * (2 if point.get("variant") == "mamba" else 1) or 1000,
        "memory": {"total": 2**20},
        "tokens": 10000,
        "state_bytes_per_sequence": None if point.get("variant") == "brand_new" else width or 64,
        "streams": "no carried state",
        "ops": [OP],
        "config": config | {"train.test_examples": "600"} | point,
    }


def main() -> int:
    command, words = (
        sys.argv[1],
        [w for w in sys.argv[2:] if w not in ("--json", "--run-id", "--no-check", "--no-ceilings")],
    )
    point = {k.removeprefix("--"): v for k, v in zip(words[::2], words[1::2], strict=True)}
    if command == "list":
        print(json.dumps(registry()))
        return 0
    if point.get("seed") == "7":
        print("seed: 7 is refused", file=sys.stderr)
        return 2
    if command == "train":
        return train(point)
    if command == "bench":
        return bench(point)
    if int(point.get("model.d_model", 64)) % 16 == 8 and point.get("variant") == "mamba":
        print("mamba: the width must be a multiple of 16", file=sys.stderr)
        return 2
    described = described_as(point)
    print(run_id(point) if "--run-id" in sys.argv else json.dumps(described))
    return 0


if __name__ == "__main__":
    sys.exit(main())
