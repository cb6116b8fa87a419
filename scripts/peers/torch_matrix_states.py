"""Mixers whose state is a matrix per head: linear attention, RetNet, GLA, DeltaNet, Mamba-2. x and y (B,T,D).

scan "kernel": the chunk kernels of fla and mamba-ssm (torch_kernels.py). "chunk": plain PyTorch (torch_chunks.py).
Parameters have the names and shapes of ours.
"""

import math

import torch
import torch.nn.functional as F
import torch_chunks as chunks
from torch import Tensor, nn
from torch_convolutions import log_uniform
from torch_kernels import has, kernel


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1))


def no_bias(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on the two halves of the last axis; x (B,T,H,K), cos and sin (T,1,K/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class ShortConv(nn.Conv1d):
    """Depthwise, causal, of width 4, then SiLU; x (B,T,channels). With `scan` kernel by fla's, where that is there."""

    def __init__(self, channels: int, scan: str):
        super().__init__(channels, channels, 4, groups=channels, padding=3)
        self.fused = kernel("short_conv") if scan == "kernel" and has("short_conv") else None

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return self.fused(x.contiguous(), self.weight[:, 0], self.bias, activation="silu")[0]
        return F.silu(super().forward(x.mT)[..., : x.shape[1]]).mT


class LinearAttention(nn.Module):
    """phi = elu + 1, divided by the sum of scores."""

    def __init__(self, d: int, scan: str, heads: int = 2):
        super().__init__()
        self.heads, self.fused = heads, kernel("linear_attention") if scan == "kernel" else None
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (no_bias(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(f(x), self.heads) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if self.fused:
            o = self.fused(q, k, v, scale=1.0, normalize=True)[0]
        else:
            o = chunks.scalar_decay(q, k, v, None) / ((q * k.cumsum(1)).sum(-1, keepdim=True) + 1e-10)
        return self.o_proj(o.flatten(2))


class RetNet(nn.Module):
    """Rotary positions, decay 1 - 2^(-5-h) of head h, RMS norm per head, gated by silu(g)."""

    def __init__(self, d: int, length: int, scan: str, heads: int = 4):
        super().__init__()
        self.heads, self.fused = heads, kernel("retnet") if scan == "kernel" else None
        self.q_proj, self.k_proj = no_bias(d, d), no_bias(d, d)
        self.v_proj, self.g_proj, self.o_proj = no_bias(d, 2 * d), no_bias(d, 2 * d), no_bias(2 * d, d)
        self.g_norm = nn.RMSNorm(2 * d // heads, eps=1e-5)
        half = d // heads // 2
        angle = torch.arange(length)[:, None, None] * 10000 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.register_buffer("decay", torch.log1p(-(2.0 ** (-5 - torch.arange(heads)))), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(f(x), self.heads) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotate(w, self.cos, self.sin) for w in (q, k))
        if self.fused:
            o = self.fused(q, k, v)[0]
        else:
            o = chunks.scalar_decay(q * q.shape[-1] ** -0.5, k, v, self.decay.expand(q.shape[:3]))
        return self.o_proj(self.g_norm(o).flatten(2) * F.silu(self.g_proj(x)))


class Gla(nn.Module):
    """A decay per key channel from the input, by two maps; RMS norm per head, gated by silu(g)."""

    def __init__(self, d: int, scan: str, heads: int = 2, rank: int = 16, normaliser: float = 16):
        super().__init__()
        self.heads, self.normaliser, self.fused = heads, normaliser, kernel("gla") if scan == "kernel" else None
        self.q_proj, self.k_proj = no_bias(d, d // 2), no_bias(d, d // 2)
        self.v_proj, self.g_proj, self.o_proj = (no_bias(d, d) for _ in range(3))
        self.gk_proj = nn.Sequential(no_bias(d, rank), nn.Linear(rank, d // 2))
        nn.init.zeros_(self.gk_proj[1].bias)
        self.g_norm = nn.RMSNorm(d // heads, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, g = (heads_of(f(x), self.heads) for f in (self.q_proj, self.k_proj, self.v_proj, self.gk_proj))
        g = F.logsigmoid(g) / self.normaliser
        o = self.fused(q, k, v, g)[0] if self.fused else chunks.vector_decay(q * q.shape[-1] ** -0.5, k, v, g)
        return self.o_proj(self.g_norm(o).flatten(2) * F.silu(self.g_proj(x)))


class DeltaNet(nn.Module):
    """Short convolutions of q, k, v; unit q and k; strength sigmoid(b); RMS norm per head."""

    def __init__(self, d: int, scan: str, heads: int = 2):
        super().__init__()
        self.heads, self.fused = heads, kernel("deltanet") if scan == "kernel" else None
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (no_bias(d, d) for _ in range(4))
        self.q_conv1d, self.k_conv1d, self.v_conv1d = (ShortConv(d, scan) for _ in range(3))
        self.b_proj, self.o_norm = no_bias(d, heads), nn.RMSNorm(d // heads, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.q_conv1d(self.q_proj(x)), self.k_conv1d(self.k_proj(x))
        q, k, v = (heads_of(w, self.heads) for w in (q, k, self.v_conv1d(self.v_proj(x))))
        beta = self.b_proj(x).sigmoid()
        if self.fused:
            low = (w.to(torch.bfloat16) for w in (q, k, v, beta))
            o = self.fused(*low, use_qk_l2norm_in_kernel=True)[0].float()
        else:
            q, k = (w * torch.rsqrt(w.square().sum(-1, keepdim=True) + 1e-6) for w in (q, k))
            o = chunks.delta_rule(q * q.shape[-1] ** -0.5, k, v, beta)
        return self.o_proj(self.o_norm(o).flatten(2))


class Mamba2(nn.Module):
    """S_t = e^{Delta_t A} S_{t-1} + Delta_t B_t x_t^T, y_t = S_t^T C_t + D x_t per head; RMS norm of y silu(z)."""

    def __init__(self, d: int, scan: str, n: int = 64, headdim: int = 64):
        super().__init__()
        self.e, self.n, self.fused = 2 * d, n, kernel("mamba2") if scan == "kernel" else None
        heads = self.e // min(headdim, self.e)
        self.in_proj = no_bias(d, 2 * self.e + 2 * n + heads)
        self.conv1d = ShortConv(self.e + 2 * n, scan)
        dt = log_uniform(1e-3, 1e-1, heads).exp().clamp(min=1e-4)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.log(1 + 15 * torch.rand(heads)))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm, self.out_proj = nn.RMSNorm(self.e, eps=1e-5), no_bias(self.e, d)
        nn.init.uniform_(self.out_proj.weight, -1 / math.sqrt(self.e), 1 / math.sqrt(self.e))

    def forward(self, x: Tensor) -> Tensor:
        z, mixed, dt = self.in_proj(x).split([self.e, self.e + 2 * self.n, len(self.D)], dim=-1)
        u, b, c = self.conv1d(mixed).split([self.e, self.n, self.n], dim=-1)
        u, b, c, a = heads_of(u, len(self.D)), b[:, :, None], c[:, :, None], -self.A_log.exp()
        if self.fused:
            y = self.fused(u, dt, a, b, c, chunk_size=256, D=self.D, dt_bias=self.dt_bias, dt_softplus=True)
        else:
            delta = F.softplus(dt + self.dt_bias)
            shared = (w.expand(-1, -1, len(self.D), -1) for w in (c, b))
            y = chunks.scalar_decay(*shared, u * delta[..., None], delta * a) + self.D[:, None] * u
        return self.out_proj(self.norm(y.flatten(2) * F.silu(z)))
