"""Timing of one piece of PyTorch work in a mode: eager, or captured once and replayed as a CUDA graph."""

import time
from collections.abc import Callable

import torch

WARM_UP = {"cpu": 1, "cuda": 3}


def set_precision(precision: str, threads: int) -> None:
    """Of matrix products, everywhere PyTorch decides about it."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # on by itself


def captured(work: Callable[[], object]) -> Callable[[], None]:
    """`work` as a graph; libraries set themselves up before, outside of the capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP["cuda"]):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()  # what the graph writes must stay allocated
    return lambda kept=kept: graph.replay()


def ready(work: Callable[[], object], mode: str, device: str) -> Callable[[], object]:
    """`work` warmed up in this mode. Raises what PyTorch raises where the mode is not to be had."""
    if "graph" in mode and device != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    run = captured(work) if "graph" in mode else work
    for _ in range(WARM_UP[device]):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return run


def seconds(run: Callable[[], object], device: str, calls: int = 1) -> float:
    """Of one call, `calls` launched one after another: by device events, on the CPU by the steady clock."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def memory(device: str) -> dict:
    if device == "cpu":
        return {}
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
