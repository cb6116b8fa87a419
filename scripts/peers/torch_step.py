#!/usr/bin/env python3
"""A training step of a PyTorch model as a process that is asked for samples on standard input.

    batch to the device -> zero gradients -> forward -> cross-entropy -> backward -> clip to norm 1 -> AdamW, fused

    scripts/peers/torch_step.py s4d --device cuda --mode graph    # then "3": three samples, one line of JSON

Modes: eager; compile, model and loss by torch.compile; graph, the whole step captured and replayed as a CUDA graph;
compile_graph, the compiled step captured. The first line of JSON says what stands ready, or {"failed": why}: nothing is
measured in another mode than the one asked for. A sample is --every steps one after another, the device waited for at
their end, by the steady clock; seconds are those of one step.
"""

import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_kernels import scan_of, scan_text
from torch_models import MIXERS, Model, Shape

WARM_UP = {"cpu": 1, "cuda": 3}  # steps before the first sample


def peak_rss() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Step:
    """Model, optimiser and batch of one mode, ready to run."""

    def __init__(self, a: argparse.Namespace, scan: str):
        cuda = a.device == "cuda"
        if "graph" in a.mode and not cuda:
            raise RuntimeError("CUDA graphs need a GPU")
        torch.manual_seed(0)
        shape = Shape(a.d_model, a.length, a.depth, a.vocab, a.classes, scan, a.mlp)
        self.model = Model(a.variant, shape).to(a.device)
        self.adamw = torch.optim.AdamW(self.model.parameters(), 1e-3, weight_decay=0.01, fused=True, capturable=cuda)
        self.host = torch.randint(1, a.vocab, (a.batch, a.length))
        self.host = self.host.pin_memory() if cuda else self.host
        self.tokens = self.host.to(a.device)
        self.labels = torch.randint(0, a.classes, (a.batch,)).to(a.device)
        self.loss_of = torch.compile(self.plain_loss, dynamic=False) if "compile" in a.mode else self.plain_loss
        self.graph, self.loss = None, None
        if "graph" in a.mode:
            self.capture()
        for _ in range(WARM_UP[a.device]):
            self()
        self.finish()

    def plain_loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.model(tokens), labels)

    def work(self) -> None:
        self.adamw.zero_grad(set_to_none=True)
        self.loss = self.loss_of(self.tokens, self.labels)
        self.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adamw.step()

    def capture(self) -> None:
        side = torch.cuda.Stream()  # libraries set themselves up outside of the capture, on another stream
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP["cuda"]):
                self.work()
        torch.cuda.current_stream().wait_stream(side)
        self.adamw.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.work()
        self.graph = graph

    def __call__(self) -> None:
        if self.tokens is not self.host:
            self.tokens.copy_(self.host, non_blocking=True)
        if self.graph is None:
            self.work()
        else:
            self.graph.replay()

    def finish(self) -> None:
        if self.tokens.is_cuda:
            torch.cuda.synchronize()

    def samples(self, n: int, every: int, budget: float) -> list[float]:
        """Seconds of a step, n of them, or fewer when the budget of seconds is spent."""
        out, begin = [], time.perf_counter()
        while len(out) < n and (not out or time.perf_counter() - begin < budget):
            start = time.perf_counter()
            for _ in range(every):
                self()
            self.finish()
            out.append((time.perf_counter() - start) / every)
        return out

    def facts(self) -> dict:
        out = {"peak_rss": peak_rss(), "loss": self.loss.item()}
        if self.tokens.is_cuda:
            out |= {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        return out


def say(**facts) -> None:
    print(json.dumps(facts), flush=True)


def why(e: Exception) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return f"{type(e).__name__}: {lines[0] if lines else ''}"[:300]


def serve(a: argparse.Namespace) -> None:
    begin, start_rss = time.perf_counter(), peak_rss()
    torch.set_num_threads(a.threads)
    torch.set_float32_matmul_precision("high" if a.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = a.precision == "tf32"  # on by itself
    scan = scan_of(a.variant, a.scan, a.device)
    step = Step(a, scan)
    every = a.every
    if every > 1:  # no sample of a slow model longer than half a second
        every = max(1, min(every, int(0.5 / step.samples(1, 1, 0)[0])))
    facts = {"parameters": sum(p.numel() for p in step.model.parameters()), "start_rss": start_rss, "every": every}
    facts |= {"torch": torch.__version__, "scan": scan_text(a.variant, scan, a.device)}
    say(**facts, setup=time.perf_counter() - begin)
    for line in sys.stdin:
        say(seconds=step.samples(int(line), every, a.budget), **step.facts())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=list(MIXERS))
    for key, value in {"batch": 16, "length": 1024, "d-model": 128, "depth": 6, "vocab": 16, "classes": 10}.items():
        parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=["eager", "compile", "graph", "compile_graph"], default="eager")
    parser.add_argument("--precision", choices=["fp32", "tf32"], default="fp32", help="of matrix products")
    parser.add_argument("--every", type=int, default=1, help="steps of a sample")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no further sample is begun")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mlp", type=int, default=-1, help="width of the MLPs in units of D; -1: the variant's")
    parser.add_argument("--scan", choices=["auto", "kernel", "loop", "chunk"], default="auto")
    try:
        serve(parser.parse_args())
    except Exception as e:
        say(failed=why(e))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
