#!/usr/bin/env python3
"""The five models in plain PyTorch, as one writes them without custom kernels, and their timed training step.

    embedding -> 6 x [x + mixer(norm(x))] -> norm -> mean over time -> 10 classes -> cross-entropy -> AdamW

    scripts/peers/torch_models.py s4d --threads 2    # then "3" on standard input: three steps, one line of JSON

x (B,T,D) throughout. The mixers follow the published definitions: S4D (Vandermonde kernel, FFT convolution, GELU, GLU),
S4 (DPLR, Cauchy kernel), Mamba (selective scan as a loop over time), attention (scaled_dot_product_attention, causal),
TCN (weight-normed dilated causal convolutions).
"""

import argparse
import json
import math
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def log_uniform(low: float, high: float, *shape: int) -> Tensor:
    """log of numbers spread log-uniformly over [low, high]."""
    return math.log(low) + torch.rand(*shape) * (math.log(high) - math.log(low))


def fft_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution of u (B,D,T) with kernel (D,T), by FFT of length 2T."""
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(kernel, n), n)[..., : u.shape[-1]]


class ConvolutionSsm(nn.Module):
    """What S4D and S4 share: y = K * u + D u, GELU, linear to 2D, GLU. Subclasses give kernel(T) (D,T)."""

    def __init__(self, d: int):
        super().__init__()
        self.log_dt = nn.Parameter(log_uniform(1e-3, 1e-1, d))
        self.skip = nn.Parameter(torch.randn(d))
        self.out = nn.Linear(d, 2 * d)

    def forward(self, x: Tensor) -> Tensor:
        u = x.transpose(1, 2)
        y = fft_conv(u, self.kernel(x.shape[1])) + self.skip[:, None] * u
        return F.glu(self.out(F.gelu(y.transpose(1, 2))), dim=-1)


class S4D(ConvolutionSsm):
    """Diagonal, zero-order hold, A = -1/2 + i pi n; N/2 conjugate modes, A and B shared by the channels."""

    def __init__(self, d: int, n: int = 64):
        super().__init__(d)
        self.log_a_real = nn.Parameter(torch.full((1, n // 2), math.log(0.5)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(n // 2).float()[None])
        self.b = nn.Parameter(torch.view_as_real(torch.ones(1, n // 2, dtype=torch.cfloat)).contiguous())
        self.c = nn.Parameter(torch.view_as_real(torch.randn(d, n // 2, dtype=torch.cfloat)).contiguous())

    def kernel(self, length: int) -> Tensor:
        a = torch.complex(-self.log_a_real.exp(), self.a_imag)
        z = a * self.log_dt.exp()[:, None]
        w = torch.view_as_complex(self.c) * torch.view_as_complex(self.b) * (z.exp() - 1) / a
        powers = torch.exp(z[..., None] * torch.arange(length))  # (D, N/2, T)
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


class S4(ConvolutionSsm):
    """Diagonal plus rank one, bilinear: generating function on the roots of unity; A, B, P shared."""

    def __init__(self, d: int, n: int = 64):
        super().__init__(d)
        eigenvalues, p, b = legs(n)
        self.log_a_real = nn.Parameter(torch.log(-eigenvalues.real).float()[None])
        self.a_imag = nn.Parameter(eigenvalues.imag.float()[None])
        for name, value in (("p", p), ("b", b)):
            setattr(self, name, nn.Parameter(torch.view_as_real(value.to(torch.cfloat))[None].clone()))
        self.c = nn.Parameter(torch.view_as_real(torch.randn(d, n // 2, dtype=torch.cfloat)).contiguous())

    def kernel(self, length: int) -> Tensor:
        dt = self.log_dt.exp()[:, None]
        a = torch.complex(-self.log_a_real.exp(), self.a_imag) * dt  # (D,M)
        b, c, p = (torch.view_as_complex(v) for v in (self.b, self.c, self.p))
        omega = torch.exp(-2j * math.pi * torch.arange(length // 2 + 1, dtype=torch.double) / length).to(torch.cfloat)
        s, d = 1 + omega, 2 * (1 - omega)
        pairs = torch.stack(torch.broadcast_tensors(c * b, c * p, p.conj() * b, p.conj() * p)) * dt  # (4,D,M)
        cauchy = 1 / (d - s * a[..., None])  # (D,M,J)
        conjugate = 1 / (d - s * a.conj()[..., None])
        g = torch.einsum("kdm,dmj->kdj", pairs, cauchy) + torch.einsum("kdm,dmj->kdj", pairs.conj(), conjugate)
        return torch.fft.irfft(2 * (g[0] - s * g[1] * g[2] / (1 + s * g[3])), length)


class Mamba(nn.Module):
    """Selective scan h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t, y_t = C_t h_t + D u_t, gated by silu(z).

    scan "loop": step after step, all kept for the backward pass. "chunk": the same, recomputed 64 steps at a time.
    """

    def __init__(self, d: int, n: int = 16, scan: str = "loop"):
        super().__init__()
        self.e, self.n, self.rank, self.scan = 2 * d, n, math.ceil(d / 16), scan
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
        length = x.shape[1]
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., :length].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([self.rank, self.n, self.n], dim=-1)
        delta = F.softplus(self.dt_proj(dt))
        h, out = u.new_zeros(u.shape[0], self.e, self.n), []
        size = length if self.scan == "loop" else 64
        for t in range(0, length, size):
            part = [v[:, t : t + size] for v in (u, delta, b, c)]
            if self.scan == "loop":
                y, h = self.steps(h, *part)
            else:
                y, h = checkpoint(self.steps, h, *part, use_reentrant=False)
            out.append(y)
        y = torch.cat(out, dim=1) + self.skip * u
        return self.out_proj(y * F.silu(z))

    def steps(self, h: Tensor, u: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        decay = torch.exp(delta[..., None] * -self.a_log.exp())  # (B,T,E,N)
        added = (delta * u)[..., None] * b[:, :, None]
        ys = []
        for a_t, b_t, c_t in zip(decay.unbind(1), added.unbind(1), c[..., None].unbind(1), strict=True):
            h = a_t * h + b_t  # unbind, since the gradient of decay[:, t] would be a tensor of decay's full size
            ys.append(torch.matmul(h, c_t)[..., 0])
        return torch.stack(ys, dim=1), h


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on the two halves of the last axis."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Causal softmax attention with rotary positions; its MLP is a second residual branch of Block."""

    def __init__(self, d: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        half = d // self.heads // 2
        angle = torch.arange(t)[:, None] * 10000 ** (-torch.arange(half) / half)
        q, k = (rotate(v, angle.cos(), angle.sin()) for v in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Tcn(nn.Module):
    """Two weight-normed causal convolutions of width k and dilation 2^layer, each with ReLU; then ReLU(x + y)."""

    def __init__(self, d: int, k: int = 3, layer: int = 0):
        super().__init__()
        self.pad = (k - 1) * 2**layer
        make = torch.nn.utils.parametrizations.weight_norm
        self.convs = nn.ModuleList(make(nn.Conv1d(d, d, k, dilation=2**layer)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2)
        for conv in self.convs:
            y = F.relu(conv(F.pad(y, (self.pad, 0))))
        return F.relu(y.transpose(1, 2) + x)


class Block(nn.Module):
    """x + mixer(norm(x)), and for attention x + MLP(norm(x)) after it."""

    def __init__(self, name: str, d: int, layer: int, scan: str, mlp: int):
        super().__init__()
        mixers = {
            "s4d": lambda: S4D(d),
            "s4": lambda: S4(d),
            "mamba": lambda: Mamba(d, scan=scan),
            "attention": lambda: Attention(d),
            "cnn": lambda: Tcn(d, layer=layer),
        }
        make_norm = nn.RMSNorm if name == "mamba" else nn.LayerNorm
        self.norm, self.mixer = make_norm(d), mixers[name]()
        self.mlp = None
        if name == "attention" and mlp:
            self.mlp = nn.Sequential(make_norm(d), nn.Linear(d, mlp * d), nn.GELU(), nn.Linear(mlp * d, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm(x))
        return x if self.mlp is None else x + self.mlp(x)


class Model(nn.Module):
    def __init__(self, name: str, d: int, layers: int, vocab: int, classes: int, scan: str, mlp: int):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.blocks = nn.Sequential(*(Block(name, d, i, scan, mlp) for i in range(layers)))
        self.norm = nn.RMSNorm(d) if name == "mamba" else nn.LayerNorm(d)
        self.head = nn.Linear(d, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(tokens))).mean(dim=1))


def peak_rss() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["s4d", "s4", "mamba", "attention", "cnn"])
    for key, value in {"batch": 16, "length": 1024, "d-model": 128, "depth": 6, "vocab": 16, "classes": 10}.items():
        parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mlp", type=int, default=2, help="width of attention's MLP in units of D, 0 for none")
    parser.add_argument("--mamba-scan", choices=["loop", "chunk"], default="loop")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    start = peak_rss()
    model = Model(a.variant, a.d_model, a.depth, a.vocab, a.classes, a.mamba_scan, a.mlp)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    tokens = torch.randint(1, a.vocab, (a.batch, a.length))
    labels = torch.randint(0, a.classes, (a.batch,))
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "start_rss": start, "torch": torch.__version__}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            t0 = time.perf_counter()
            adamw.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(tokens), labels)
            loss.backward()
            adamw.step()
            seconds.append(time.perf_counter() - t0)
        print(json.dumps({"seconds": seconds, "peak_rss": peak_rss(), "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()
