#!/usr/bin/env python3
"""One operation in PyTorch as a process that is asked for samples on standard input; see serving.py.

    scripts/peers/torch_ops.py fft_conv --shape 64 8192 256 64 --device cuda --mode graph    # then "20"

Phases forward, and backward where it can be called alone (selective_scan), else forward_backward. Sizes are B T D N as
`ssmbench bench` has them: selective_scan and ssd work on 2 D channels, attention on D / 64 heads.
"""

import argparse
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from serving import serve
from torch_kernels import kernel, text
from torch_timing import memory, ready, seconds, set_precision

Phases = dict[str, Callable[[], object]]


def both(forward: Callable[[], torch.Tensor], leaves: tuple) -> Phases:
    dy = torch.randn_like(forward().detach())

    def plain() -> torch.Tensor:
        with torch.no_grad():
            return forward()

    return {"forward": plain, "forward_backward": lambda: torch.autograd.grad(forward(), leaves, dy)}


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, requires_grad=True)


def selective_scan(b: int, t: int, d: int, n: int) -> Phases:
    """With softplus, bias, D and the gate, u (B,E,T)."""
    forward_of, backward_of = kernel("selective_scan"), kernel("selective_scan_backward")
    e = 2 * d
    u, z, bs, cs, dt = (torch.randn(b, *s) for s in ((e, t), (e, t), (1, n, t), (1, n, t), (e, t)))
    a, skip, bias = -torch.rand(e, n) - 0.5, torch.randn(e), torch.randn(e) - 4
    forward = lambda: forward_of(u, dt, a, bs, cs, skip, z, bias, True)  # noqa: E731
    out, x, *_ = forward()
    dy = torch.randn_like(out)
    backward = lambda: backward_of(u, dt, a, bs, cs, skip, z, bias, dy, x, out, None, True, False)  # noqa: E731
    return {"forward": forward, "backward": backward}


def fft_conv(b: int, t: int, d: int, _: int) -> Phases:
    """Rows (B,D,T), a kernel and a skip per channel."""
    u, k, skip = leaf(b, d, t), leaf(d, t), leaf(d, 1)

    def forward() -> torch.Tensor:
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * t) * torch.fft.rfft(k, n=2 * t), n=2 * t)[..., :t]
        return y + skip * u

    return both(forward, (u, k, skip))


def ssd(b: int, t: int, d: int, n: int) -> Phases:
    """Heads of 64 channels, one group."""
    chunk_scan, heads = kernel("mamba2"), 2 * d // 64
    x, bs, cs = leaf(b, t, heads, 64), leaf(b, t, 1, n), leaf(b, t, 1, n)
    dt, a = (torch.rand(b, t, heads) * 0.1).requires_grad_(), (-torch.rand(heads) - 0.5).requires_grad_()
    return both(lambda: chunk_scan(x, dt, a, bs, cs, chunk_size=256), (x, dt, a, bs, cs))


def attention(b: int, t: int, d: int, _: int) -> Phases:
    """Causal, heads of 64 channels."""
    q, k, v = (leaf(b, d // 64, t, 64) for _ in range(3))
    return both(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), (q, k, v))


OPS = {f.__name__: f for f in (selective_scan, fft_conv, ssd, attention)}
KERNELS = {"selective_scan": "selective_scan", "ssd": "mamba2"}


def prepare(a: argparse.Namespace):
    set_precision(a.precision, a.threads)
    torch.manual_seed(0)
    torch.set_default_device(a.device)
    phases = {name: ready(work, a.mode, a.device) for name, work in OPS[a.op](*a.shape).items()}
    said = text(KERNELS[a.op]) if a.op in KERNELS else "PyTorch"
    facts = {"version": f"PyTorch {torch.__version__}", "scan": said, "every": 1}

    def samples(n: int) -> dict:
        return {"seconds": {p: [seconds(run, a.device) for _ in range(n)] for p, run in phases.items()}} | memory(
            a.device
        )

    return facts, samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", choices=list(OPS))
    parser.add_argument("--shape", nargs=4, type=int, required=True, metavar=("B", "T", "D", "N"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=["eager", "graph"], default="eager")
    parser.add_argument("--precision", choices=["fp32", "tf32"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    return serve(lambda: prepare(a))


if __name__ == "__main__":
    sys.exit(main())
