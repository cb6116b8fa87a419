"""Mixers whose work is a long convolution, in plain PyTorch: S4D, S4, LongConv, Hyena, H3. x and y (B,T,D).

What depends on the length alone (powers, roots of unity, features of time) is made once, not in every step.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def log_uniform(low: float, high: float, *shape: int) -> Tensor:
    """log of numbers spread log-uniformly over [low, high]."""
    return math.log(low) + torch.rand(*shape) * (math.log(high) - math.log(low))


def fft_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution of u (B,D,T) with kernel (D,T), by FFT of length 2T."""
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(kernel, n), n)[..., : u.shape[-1]]


class Convolution(nn.Module):
    """y = K * u + D u, GELU, linear to 2D, GLU. Subclasses give kernel() (D,T)."""

    def __init__(self, d: int):
        super().__init__()
        self.skip = nn.Parameter(torch.randn(d))
        self.out = nn.Linear(d, 2 * d)

    def forward(self, x: Tensor) -> Tensor:
        u = x.transpose(1, 2)
        y = fft_conv(u, self.kernel()) + self.skip[:, None] * u
        return F.glu(self.out(F.gelu(y.transpose(1, 2))), dim=-1)


class S4D(Convolution):
    """Diagonal, zero-order hold, A = -1/2 + i pi n; N/2 conjugate modes, A and B shared by the channels."""

    def __init__(self, d: int, length: int, n: int = 64):
        super().__init__(d)
        self.log_dt = nn.Parameter(log_uniform(1e-3, 1e-1, d))
        self.log_a_real = nn.Parameter(torch.full((1, n // 2), math.log(0.5)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(n // 2).float()[None])
        self.b = nn.Parameter(torch.view_as_real(torch.ones(1, n // 2, dtype=torch.cfloat)).contiguous())
        self.c = nn.Parameter(torch.view_as_real(torch.randn(d, n // 2, dtype=torch.cfloat)).contiguous())
        self.register_buffer("time", torch.arange(length))

    def kernel(self) -> Tensor:
        a = torch.complex(-self.log_a_real.exp(), self.a_imag)
        z = a * self.log_dt.exp()[:, None]
        w = torch.view_as_complex(self.c) * torch.view_as_complex(self.b) * (z.exp() - 1) / a
        powers = torch.exp(z[..., None] * self.time)  # (D, N/2, T)
        return 2 * torch.einsum("dn,dnt->dt", w, powers).real


def legs(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS as diagonal plus rank one: eigenvalues, P and B of the conjugate half, each (n/2) complex."""
    index = torch.arange(n, dtype=torch.double)
    b, p = torch.sqrt(2 * index + 1), torch.sqrt(index + 0.5)
    skew = -0.5 * (torch.tril(b[:, None] * b, -1) - torch.triu(b[:, None] * b, 1))
    imag, v = torch.linalg.eigh(-1j * skew.to(torch.cdouble))
    keep = imag > 0
    rotate = v.conj().T[keep]
    half = torch.full_like(imag[keep], -0.5)
    return torch.complex(half, imag[keep]), rotate @ p.to(torch.cdouble), rotate @ b.to(torch.cdouble)


class S4(Convolution):
    """Diagonal plus rank one, bilinear: generating function on the roots of unity; A, B, P shared."""

    def __init__(self, d: int, length: int, n: int = 64):
        super().__init__(d)
        eigenvalues, p, b = legs(n)
        self.length = length
        self.log_dt = nn.Parameter(log_uniform(1e-3, 1e-1, d))
        self.log_a_real = nn.Parameter(torch.log(-eigenvalues.real).float()[None])
        self.a_imag = nn.Parameter(eigenvalues.imag.float()[None])
        for name, value in (("p", p), ("b", b)):
            setattr(self, name, nn.Parameter(torch.view_as_real(value.to(torch.cfloat))[None].clone()))
        self.c = nn.Parameter(torch.view_as_real(torch.randn(d, n // 2, dtype=torch.cfloat)).contiguous())
        omega = torch.exp(-2j * math.pi * torch.arange(length // 2 + 1, dtype=torch.double) / length).to(torch.cfloat)
        self.register_buffer("omega", omega)

    def kernel(self) -> Tensor:
        dt = self.log_dt.exp()[:, None]
        a = torch.complex(-self.log_a_real.exp(), self.a_imag) * dt  # (D,M)
        b, c, p = (torch.view_as_complex(v) for v in (self.b, self.c, self.p))
        s, d = 1 + self.omega, 2 * (1 - self.omega)
        pairs = torch.stack(torch.broadcast_tensors(c * b, c * p, p.conj() * b, p.conj() * p)) * dt  # (4,D,M)
        cauchy = 1 / (d - s * a[..., None])  # (D,M,J)
        conjugate = 1 / (d - s * a.conj()[..., None])
        g = torch.einsum("kdm,dmj->kdj", pairs, cauchy) + torch.einsum("kdm,dmj->kdj", pairs.conj(), conjugate)
        return torch.fft.irfft(2 * (g[0] - s * g[1] * g[2] / (1 + s * g[3])), self.length)


class LongConv(Convolution):
    """A parameter per tap, taps below 0.003 are zero."""

    def __init__(self, d: int, length: int, squash: float = 0.003):
        super().__init__(d)
        self.taps, self.squash = nn.Parameter(0.002 * torch.randn(d, length)), squash

    def kernel(self) -> Tensor:
        return F.softshrink(self.taps, self.squash)


class Hyena(nn.Module):
    """Order 2: y = W_out((K * (v x1) + bias v x1) x0), K an MLP of sines over features of time under a decay."""

    def __init__(self, d: int, length: int, width: int = 64, bands: int = 2):
        super().__init__()
        self.d, self.length = d, length
        self.in_proj, self.out_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.short = nn.Conv1d(3 * d, 3 * d, 3, groups=3 * d, padding=2)
        t = torch.linspace(0, 1, length)[:, None]
        turn = 2 * math.pi * torch.arange(length)[:, None] / length * torch.linspace(1e-4, bands - 1, bands)
        self.features = nn.Parameter(torch.cat([t, turn.cos(), -turn.sin()], dim=1))  # (T, 2 bands + 1)
        self.layers = nn.ModuleList(nn.Linear(n, width) for n in (2 * bands + 1, width, width))
        self.freq = nn.Parameter(torch.full((width,), 10.0))
        self.last = nn.Linear(width, d, bias=False)
        self.bias = nn.Parameter(torch.randn(d))
        self.register_buffer("window", torch.exp(-t * torch.linspace(math.log(100) / 1.5, math.log(100) / 0.3, d)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.features
        for layer in self.layers:
            h = torch.sin(self.freq * layer(h))
        kernel = (self.last(h) * self.window).T
        u = self.short(self.in_proj(x).transpose(1, 2))[..., : self.length]
        x0, x1, v = u.split(self.d, dim=1)
        v = v * x1
        return self.out_proj(((fft_conv(v, kernel) + self.bias[:, None] * v) * x0).transpose(1, 2))


class H3(nn.Module):
    """y = W_out(q (K * (v (shift * k)))): K a diagonal system per channel, bilinear, shift N taps; both with a skip."""

    def __init__(self, d: int, length: int, n: int = 64):
        super().__init__()
        self.n, half = n, n // 2
        self.q_proj, self.k_proj, self.v_proj, self.output_linear = (nn.Linear(d, d) for _ in range(4))
        taps = {name: torch.randn(*lead, d, n) / math.sqrt(n) for name, lead in (("B", ()), ("C", (1,)))}
        self.ssm_k_kernel = nn.ParameterDict(taps)
        self.ssm_k_D, self.D = nn.Parameter(torch.randn(d)), nn.Parameter(torch.randn(d))
        pairs = torch.ones(1, d, half, dtype=torch.cfloat), torch.randn(1, d, half, dtype=torch.cfloat)
        self.kernel = nn.ParameterDict({
            "inv_dt": log_uniform(1e-3, 1e-1, d, 1), "A_real": torch.full((d, half), math.log(0.5)),
            "A_imag": (math.pi * torch.arange(half).float()).repeat(d, 1),
            "B": torch.view_as_real(pairs[0]).clone(), "C": torch.view_as_real(pairs[1]).clone(),
        })  # fmt: skip
        self.register_buffer("time", torch.arange(length), persistent=False)

    def shift(self) -> Tensor:
        """Tap i is sum_j C_{i+j} B_j; (D,N)."""
        b, c = (torch.fft.rfft(self.ssm_k_kernel[name], 2 * self.n) for name in ("B", "C"))
        return torch.fft.irfft(c[0] * b.conj(), 2 * self.n)[:, : self.n]

    def memory(self) -> Tensor:
        """(D,T)"""
        p = self.kernel
        dt, a = p["inv_dt"].exp(), torch.complex(-p["A_real"].exp(), -p["A_imag"])
        step, half = (1 + dt * a / 2) / (1 - dt * a / 2), 1 - dt * a / 2
        w = torch.view_as_complex(p["C"])[0] * torch.view_as_complex(p["B"])[0] * dt / half
        return 2 * torch.einsum("dn,dnt->dt", w, torch.exp(step.log()[..., None] * self.time)).real

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).mT for f in (self.q_proj, self.k_proj, self.v_proj))
        s = v * (fft_conv(k, self.shift()) + self.ssm_k_D[:, None] * k)
        return self.output_linear((q * (fft_conv(s, self.memory()) + self.D[:, None] * s)).mT)
