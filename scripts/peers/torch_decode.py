#!/usr/bin/env python3
"""One token through a PyTorch mixer with carried state, as a process that is asked for samples; see serving.py.

    scripts/peers/torch_decode.py mamba --batch 1 --d-model 512 --device cuda --mode graph    # then "20"

Modes: eager; compile; graph, the step captured and replayed as a CUDA graph; compile_graph. States change in place;
what does not depend on the input is made once. attention looks back over --length positions. The states of mamba and
mamba2 are updated by mamba-ssm's kernel where it can be imported and there is a GPU. A sample is --every steps.
"""

import argparse
import math
import sys

import torch
import torch.nn.functional as F
from serving import serve
from torch import Tensor, nn
from torch_convolutions import S4D
from torch_kernels import has, kernel, text
from torch_matrix_states import Mamba2
from torch_models import Attention
from torch_recurrences import S5, Lru, Mamba
from torch_timing import memory, ready, seconds, set_precision


class Step(nn.Module):
    """x, y (B,D)."""

    def keep(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.register_buffer(name, value.detach().clone())


class Modes(Step):
    """Complex states as pairs of real numbers: h = a h + w; `a` (..,M), h (B,..,M)."""

    def start(self, batch: int, a: Tensor) -> None:
        self.keep(a_re=a.real, a_im=a.imag, re=torch.zeros(batch, *a.shape), im=torch.zeros(batch, *a.shape))

    def advance(self, w_re: Tensor, w_im: Tensor | float) -> tuple[Tensor, Tensor]:
        re = self.a_re * self.re - self.a_im * self.im + w_re
        im = self.a_re * self.im + self.a_im * self.re + w_im
        self.re.copy_(re)
        self.im.copy_(im)
        return re, im


class S4DStep(Modes):
    def __init__(self, a: argparse.Namespace):
        super().__init__()
        m = S4D(a.d_model, 1)
        modes = torch.complex(-m.log_a_real.exp(), m.a_imag)
        step = (modes * m.log_dt.exp()[:, None]).exp()
        gain = 2 * torch.view_as_complex(m.c) * torch.view_as_complex(m.b) * (step - 1) / modes
        self.start(a.batch, step)
        self.keep(gain_re=gain.real, gain_im=gain.imag, skip=m.skip)
        self.out = m.out

    def forward(self, x: Tensor) -> Tensor:
        re, im = self.advance(x[..., None], 0.0)
        y = (self.gain_re * re - self.gain_im * im).sum(-1) + self.skip * x
        return F.glu(self.out(F.gelu(y)), dim=-1)


class DiagonalStep(Modes):
    """S5 and LRU: one system for all channels."""

    def __init__(self, a: argparse.Namespace):
        super().__init__()
        self.m = m = (S5 if a.variant == "s5" else Lru)(a.d_model, 1)
        z, gain = m.modes()
        self.start(a.batch, z.exp())
        b = torch.complex(*m.b) * gain[:, None]
        self.keep(into=torch.cat([b.real, b.imag]), out=m.scale * torch.cat([m.c[0], -m.c[1]], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        re, im = self.advance(*F.linear(x, self.into).chunk(2, dim=-1))
        y = F.linear(torch.cat([re, im], dim=-1), self.out) + self.m.skip * x
        y = F.gelu(y, approximate="tanh")
        return (y if isinstance(self.m, S5) else self.m.value(y)) * torch.sigmoid(self.m.gate(y))


class Selective(Step):
    """A window of the short convolution, and a state that mamba-ssm's kernel updates, or plain PyTorch."""

    def start(self, a: argparse.Namespace, conv: nn.Conv1d, *state: int) -> None:
        self.update = kernel("state_update") if a.device == "cuda" and has("state_update") else None
        self.keep(window=torch.zeros(a.batch, conv.in_channels, 4), state=torch.zeros(a.batch, *state))
        self.keep(taps=conv.weight[:, 0], conv_bias=conv.bias)

    def convolved(self, u: Tensor) -> Tensor:
        window = torch.cat([self.window[..., 1:], u[..., None]], dim=-1)
        self.window.copy_(window)
        return F.silu((window * self.taps).sum(-1) + self.conv_bias)


class MambaStep(Selective):
    def __init__(self, a: argparse.Namespace):
        super().__init__()
        self.m = m = Mamba(a.d_model, "chunk")
        self.start(a, m.conv, m.e, m.n)
        self.keep(a=-m.a_log.exp())

    def forward(self, x: Tensor) -> Tensor:
        m = self.m
        u, z = m.in_proj(x).chunk(2, dim=-1)
        u = self.convolved(u)
        dt, b, c = m.x_proj(u).split([m.rank, m.n, m.n], dim=-1)
        if self.update:
            dt = F.linear(dt, m.dt_proj.weight)
            return m.out_proj(self.update(self.state, u, dt, self.a, b, c, m.skip, z, m.dt_proj.bias, dt_softplus=True))
        dt = F.softplus(m.dt_proj(dt))
        state = self.state * torch.exp(dt[..., None] * self.a) + (dt * u)[..., None] * b[:, None]
        self.state.copy_(state)
        return m.out_proj(((state * c[:, None]).sum(-1) + m.skip * u) * F.silu(z))


class Mamba2Step(Selective):
    def __init__(self, a: argparse.Namespace):
        super().__init__()
        self.m = m = Mamba2(a.d_model, "chunk")
        self.heads, self.p = len(m.D), m.e // len(m.D)
        self.start(a, m.conv1d, self.heads, self.p, m.n)
        self.keep(a=-m.A_log.exp())

    def forward(self, x: Tensor) -> Tensor:
        m, heads, p = self.m, self.heads, self.p
        z, mixed, dt = m.in_proj(x).split([m.e, m.e + 2 * m.n, heads], dim=-1)
        u, b, c = self.convolved(mixed).split([m.e, m.n, m.n], dim=-1)
        u = u.unflatten(-1, (heads, p))
        if self.update:
            wide = (w[..., None].expand(*w.shape, p) for w in (dt, m.D, m.dt_bias))
            dt, skip, bias = wide
            a = self.a[:, None, None].expand(heads, p, m.n)
            y = self.update(self.state, u, dt, a, b[:, None], c[:, None], skip, None, bias, dt_softplus=True)
        else:
            dt = F.softplus(dt + m.dt_bias)
            added = (dt[..., None] * u)[..., None] * b[:, None, None]
            state = self.state * torch.exp(dt * self.a)[..., None, None] + added
            self.state.copy_(state)
            y = (state * c[:, None, None]).sum(-1) + m.D[:, None] * u
        return m.out_proj(m.norm(y.flatten(1) * F.silu(z)))


class Recurrent(Step):
    """LSTM and GRU."""

    def __init__(self, a: argparse.Namespace):
        super().__init__()
        self.cells = (nn.LSTMCell if a.variant == "lstm" else nn.GRUCell)(a.d_model, a.d_model)
        self.keep(h=torch.zeros(a.batch, a.d_model), c=torch.zeros(a.batch, a.d_model))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.cells, nn.GRUCell):
            self.h.copy_(self.cells(x, self.h))
            return self.h
        h, c = self.cells(x, (self.h, self.c))
        self.h.copy_(h)
        self.c.copy_(c)
        return h


class AttentionStep(Step):
    """The last of --length positions: all keys and values stand in the cache."""

    def __init__(self, a: argparse.Namespace):
        super().__init__()
        self.m, heads = Attention(a.d_model, 1), 4
        self.heads, self.width = heads, a.d_model // heads
        half = self.width // 2
        angle = (a.length - 1) * 10000 ** (-torch.arange(half) / half)
        cache = torch.randn(2, a.batch, heads, a.length, self.width)
        self.keep(cos=angle.cos(), sin=angle.sin(), keys=cache[0], values=cache[1])

    def turned(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.m.qkv(x).view(len(x), 3, self.heads, self.width).unbind(1)
        self.keys[:, :, -1].copy_(self.turned(k))
        self.values[:, :, -1].copy_(v)
        y = F.scaled_dot_product_attention(self.turned(q)[:, :, None], self.keys, self.values)
        return self.m.out(y.flatten(1))


STEPS = {
    "s4d": S4DStep, "s5": DiagonalStep, "lru": DiagonalStep, "mamba": MambaStep, "mamba2": Mamba2Step,
    "lstm": Recurrent, "gru": Recurrent, "attention": AttentionStep,
}  # fmt: skip


def prepare(a: argparse.Namespace):
    set_precision(a.precision, a.threads)
    torch.manual_seed(0)
    step = STEPS[a.variant](a).to(a.device).eval().requires_grad_(False)
    x = torch.randn(a.batch, a.d_model, device=a.device) / math.sqrt(a.d_model)
    body = torch.compile(step, dynamic=False) if "compile" in a.mode else step

    def work() -> Tensor:
        with torch.no_grad():
            return body(x)

    run = ready(work, a.mode, a.device)
    fused = isinstance(step, Selective) and step.update
    facts = {"version": f"PyTorch {torch.__version__}", "scan": text("state_update") if fused else "PyTorch"}
    facts["every"] = a.every
    return facts, lambda n: {"seconds": {"decode": [seconds(run, a.device, a.every) for _ in range(n)]}} | memory(
        a.device
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=list(STEPS))
    for key, value in {"batch": 1, "length": 1024, "d-model": 512, "every": 100, "threads": 2}.items():
        parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=["eager", "compile", "graph", "compile_graph"], default="eager")
    parser.add_argument("--precision", choices=["fp32", "tf32"], default="fp32")
    a = parser.parse_args()
    return serve(lambda: prepare(a))


if __name__ == "__main__":
    sys.exit(main())
