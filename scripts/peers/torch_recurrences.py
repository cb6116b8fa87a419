"""Mixers that carry a state from position to position, in plain PyTorch: Mamba, S5, LRU, LSTM, GRU. x and y (B,T,D)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_convolutions import log_uniform
from torch_kernels import kernel


class Mamba(nn.Module):
    """Selective scan h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t, y_t = C_t h_t + D u_t, gated by silu(z).

    scan "kernel": mamba-ssm's CUDA kernel. "loop": step after step, all kept for the backward pass. "chunk": the same,
    recomputed 64 steps at a time.
    """

    def __init__(self, d: int, scan: str, n: int = 16):
        super().__init__()
        self.e, self.n, self.rank, self.scan = 2 * d, n, math.ceil(d / 16), scan
        self.fused_scan = kernel("mamba") if scan == "kernel" else None
        self.in_proj = nn.Linear(d, 2 * self.e, bias=False)
        self.conv = nn.Conv1d(self.e, self.e, 4, groups=self.e, padding=3)
        self.x_proj = nn.Linear(self.e, self.rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.e)
        dt = log_uniform(1e-3, 1e-1, self.e).exp()
        self.dt_proj.bias.data = dt + torch.log(-torch.expm1(-dt))
        self.a_log = nn.Parameter(torch.log(torch.arange(1, n + 1).float()).repeat(self.e, 1))
        self.skip = nn.Parameter(torch.ones(self.e))
        self.out_proj = nn.Linear(self.e, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]])  # (B,E,T)
        dt, b, c = self.x_proj(u.transpose(1, 2)).split([self.rank, self.n, self.n], dim=-1)
        if self.scan == "kernel":
            return self.out_proj(self.fused(u, z, dt, b, c))
        return self.out_proj(self.plain(u.transpose(1, 2), F.softplus(self.dt_proj(dt)), b, c) * F.silu(z))

    def fused(self, u: Tensor, z: Tensor, dt: Tensor, b: Tensor, c: Tensor) -> Tensor:
        delta = (self.dt_proj.weight @ dt.transpose(1, 2)).contiguous()
        b, c, z = (v.transpose(1, 2).contiguous() for v in (b, c, z))
        y = self.fused_scan(u.contiguous(), delta, -self.a_log.exp(), b, c, self.skip, z, self.dt_proj.bias, True)
        return y.transpose(1, 2)

    def plain(self, u: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> Tensor:
        length = u.shape[1]
        h, out = u.new_zeros(u.shape[0], self.e, self.n), []
        size = length if self.scan == "loop" else 64
        for t in range(0, length, size):
            part = [v[:, t : t + size] for v in (u, delta, b, c)]
            if self.scan == "loop":
                y, h = self.steps(h, *part)
            else:
                y, h = checkpoint(self.steps, h, *part, use_reentrant=False, preserve_rng_state=False)
            out.append(y)
        return torch.cat(out, dim=1) + self.skip * u

    def steps(self, h: Tensor, u: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        decay = torch.exp(delta[..., None] * -self.a_log.exp())  # (B,T,E,N)
        added = (delta * u)[..., None] * b[:, :, None]
        ys = []
        for a_t, b_t, c_t in zip(decay.unbind(1), added.unbind(1), c[..., None].unbind(1), strict=True):
            h = a_t * h + b_t  # unbind, since the gradient of decay[:, t] would be a tensor of decay's full size
            ys.append(torch.matmul(h, c_t)[..., 0])
        return torch.stack(ys, dim=1), h


class Diagonal(nn.Module):
    """x_t = lambda x_{t-1} + B u_t, y = scale Re(C x) + D u, complex states (P), one system for all channels.

    lambda does not depend on t, so the scan is a convolution with its powers, by FFT over time. Subclasses give
    modes(): log lambda and the factor of B.
    """

    scale: int

    def __init__(self, d: int, length: int, p: int):
        super().__init__()
        self.b = nn.Parameter(torch.randn(2, p, d) / math.sqrt(2 * d))
        self.c = nn.Parameter(torch.randn(2, d, p) / math.sqrt(p))
        self.skip = nn.Parameter(torch.randn(d))
        self.register_buffer("time", torch.arange(length))

    def states(self, u: Tensor) -> Tensor:
        """y before the output gate."""
        z, gain = self.modes()
        b = torch.complex(*self.b) * gain[:, None]
        bu = (torch.cat([b.real, b.imag]) @ u.transpose(1, 2)).unflatten(1, (2, -1))  # (B,2,P,T)
        n = 2 * u.shape[1]
        powers = torch.fft.fft(torch.exp(z[:, None] * self.time), n)
        x = torch.fft.ifft(torch.fft.fft(torch.complex(bu[:, 0], bu[:, 1]), n) * powers, n)[..., : u.shape[1]]
        c = self.scale * torch.cat([self.c[0], -self.c[1]], dim=1)  # (D,2P)
        return (c @ torch.cat([x.real, x.imag], dim=1)).transpose(1, 2) + self.skip * u


class S5(Diagonal):
    """Zero-order hold, a step per mode, conjugate pairs; y = GELU(y), out = y sigmoid(W y)."""

    scale = 2

    def __init__(self, d: int, length: int, n: int = 64):
        super().__init__(d, length, n // 2)
        self.a_real = nn.Parameter(torch.full((n // 2,), -0.5))
        self.a_imag = nn.Parameter(math.pi * torch.arange(n // 2).float())
        self.log_dt = nn.Parameter(log_uniform(1e-3, 1e-1, n // 2))
        self.gate = nn.Linear(d, d)

    def modes(self) -> tuple[Tensor, Tensor]:
        a = torch.complex(self.a_real, self.a_imag)
        z = a * self.log_dt.exp()
        return z, (z.exp() - 1) / a

    def forward(self, u: Tensor) -> Tensor:
        y = F.gelu(self.states(u), approximate="tanh")
        return y * torch.sigmoid(self.gate(y))


class Lru(Diagonal):
    """lambda = exp(-e^nu + i e^theta), B scaled by e^gamma; y = GELU(y), out = (V y) sigmoid(W y)."""

    scale = 1

    def __init__(self, d: int, length: int, p: int = 64):
        super().__init__(d, length, p)
        radius = torch.rand(p).clamp(min=1e-6).sqrt()
        self.nu = nn.Parameter(torch.log(-torch.log(radius)))
        self.theta = nn.Parameter(torch.log(6.28 * torch.rand(p)))
        self.gamma = nn.Parameter(0.5 * torch.log1p(-(radius**2)))
        self.value, self.gate = nn.Linear(d, d), nn.Linear(d, d)

    def modes(self) -> tuple[Tensor, Tensor]:
        return torch.complex(-self.nu.exp(), self.theta.exp()), self.gamma.exp()

    def forward(self, u: Tensor) -> Tensor:
        y = F.gelu(self.states(u), approximate="tanh")
        return self.value(y) * torch.sigmoid(self.gate(y))


class Gated(nn.Module):
    """torch.nn.LSTM or torch.nn.GRU of width D: on a GPU cuDNN's kernels."""

    def __init__(self, make: type[nn.RNNBase], d: int):
        super().__init__()
        self.cells = make(d, d, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0]
