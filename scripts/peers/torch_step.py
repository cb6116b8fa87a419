#!/usr/bin/env python3
"""A training step of a PyTorch model as a process that is asked for samples on standard input; see serving.py.

    batch to the device -> zero gradients -> forward -> cross-entropy -> backward -> clip to norm 1 -> AdamW, fused

    scripts/peers/torch_step.py s4d --device cuda --mode graph    # then "3": three samples, one line of JSON

Modes: eager; compile, model and loss by torch.compile; graph, the whole step captured and replayed as a CUDA graph;
compile_graph, the compiled step captured. Nothing is measured in another mode than the one asked for. A sample is
--every steps one after another, the device waited for at their end, by the steady clock; seconds are those of one step.
"""

import argparse
import sys
import time

import torch
import torch.nn.functional as F
from serving import serve
from torch import Tensor
from torch_kernels import scan_of, scan_text
from torch_models import MIXERS, Model, Shape
from torch_timing import memory, ready, set_precision


class Step:
    """Model, optimiser and batch of one mode, ready to run."""

    def __init__(self, a: argparse.Namespace, scan: str):
        cuda = a.device == "cuda"
        torch.manual_seed(0)
        shape = Shape(a.d_model, a.length, a.depth, a.vocab, a.classes, scan, a.mlp)
        self.model = Model(a.variant, shape).to(a.device)
        self.adamw = torch.optim.AdamW(self.model.parameters(), 1e-3, weight_decay=0.01, fused=True, capturable=cuda)
        self.host = torch.randint(1, a.vocab, (a.batch, a.length))
        self.host = self.host.pin_memory() if cuda else self.host
        self.tokens = self.host.to(a.device)
        self.labels = torch.randint(0, a.classes, (a.batch,)).to(a.device)
        self.loss_of = torch.compile(self.plain_loss, dynamic=False) if "compile" in a.mode else self.plain_loss
        self.run = ready(self.work, a.mode, a.device)
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

    def __call__(self) -> None:
        if self.tokens is not self.host:
            self.tokens.copy_(self.host, non_blocking=True)
        self.run()

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


def prepare(a: argparse.Namespace):
    set_precision(a.precision, a.threads)
    scan = scan_of(a.variant, a.scan, a.device)
    step = Step(a, scan)
    every = a.every
    if every > 1:  # no sample of a slow model longer than half a second
        every = max(1, min(every, int(0.5 / step.samples(1, 1, 0)[0])))
    facts = {"parameters": sum(p.numel() for p in step.model.parameters()), "every": every}
    facts |= {"version": f"PyTorch {torch.__version__}", "scan": scan_text(a.variant, scan, a.device)}

    def samples(n: int) -> dict:
        seconds = step.samples(n, every, a.budget)
        return {"seconds": {"train_step": seconds}, "loss": step.loss.item()} | memory(a.device)

    return facts, samples


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
    a = parser.parse_args()
    return serve(lambda: prepare(a))


if __name__ == "__main__":
    sys.exit(main())
