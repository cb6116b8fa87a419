"""Mamba: the recurrence of S6, one position after the other, or another layer in its place."""

import numpy as np
from h3 import taps
from hyena import implicit
from s4d import discrete
from shared import Call, linear, long_conv, pair, short_conv, silu, softplus


def invariant(c: Call, u):
    """u -> K * u + D u, or with Hyena's kernels K * u"""
    T, E = u.shape[1:]
    if c.inner == "hyena":
        return long_conv(taps(implicit(c, E, (0.3, 1.5)).T, T), u)
    lam = -np.exp(c.p["kernel.A_real"]) - 1j * c.p.get("kernel.A_imag", 0)
    B, C = (pair(v) if v.shape[-1] == 2 else v[..., 0] for v in (c.p["kernel.B"][0], c.p["kernel.C"][0]))
    A, B = discrete("zoh", lam, B, np.exp(c.p["kernel.inv_dt"]))
    K = 2 * np.einsum("hm,hm,hmt->ht", C, B, A[:, :, None] ** np.arange(T)).real
    return long_conv(K, u) + c.p["D"] * u


def selective(c: Call, u):
    B, T, _ = u.shape
    is_complex = c.A_init == "complex"
    N = c.d_state * (2 if is_complex else 1)  # numbers of B_t
    rank = c.dt_rank or -(-c.x.shape[2] // 16)
    widths = [rank * c.select_delta, N * c.select_B, N * c.select_C]
    if sum(widths):
        low, B_t, C_t = np.split(linear(c, "x_proj", u), np.cumsum(widths)[:-1], axis=-1)
    bias = c.p["dt_proj.bias"]
    delta = (
        softplus(low @ c.p["dt_proj.weight"].T + bias) if c.select_delta else np.broadcast_to(softplus(bias), u.shape)
    )
    into = B_t[:, :, None, :] if c.select_B else np.broadcast_to(c.p["B"], (B, T, *c.p["B"].shape))
    out = C_t[:, :, None, :] if c.select_C else np.broadcast_to(c.p["C"], (B, T, *c.p["C"].shape))
    A = -np.exp(c.p["A_log"])
    if is_complex:
        A = A + 1j * c.p["A_imag"]
        into, out = (pair(v.reshape(*v.shape[:3], c.d_state, 2)) for v in (into, out))
    h = np.zeros((B, *A.shape), A.dtype)
    y = np.empty_like(u)
    for t in range(T):
        h = np.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * into[:, t]
        y[:, t] = (2 if is_complex else 1) * (h * out[:, t]).sum(-1).real + c.p["D"] * u[:, t]
    return y


def forward(c: Call):
    E = c.expand * c.x.shape[2]
    inner = linear(c, "in_proj", c.x)
    u = silu(short_conv(c, "conv1d", inner[..., :E]) if c.conv else inner[..., :E])
    y = selective(c, u) if c.inner == "s6" else invariant(c, u)
    return linear(c, "out_proj", y * silu(inner[..., E:]) if c.gate else y)
