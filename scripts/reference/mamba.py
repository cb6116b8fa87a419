"""Mamba: the recurrence of S6, one position after the other, or another layer in its place."""

import numpy as np
from hyena import implicit
from s4d import discrete
from shared import Call, linear, long_conv, pair, short_conv, silu, softplus, taps


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


def selective(c: Call, u, widths):
    """S6 of u (B, T, E). widths: columns of u's projection for delta, B and C; 0 where that is a parameter."""
    A = -np.exp(c.p["A_log"])
    if sum(widths):
        low, B_t, C_t = np.split(linear(c, "x_proj", u), np.cumsum(widths)[:-1], axis=-1)
    raw = low @ c.p["dt_proj.weight"].T if widths[0] else np.zeros(u.shape)
    delta = softplus(raw + c.p["dt_proj.bias"])
    into = B_t[:, :, None, :] if widths[1] else np.broadcast_to(c.p["B"], (*u.shape[:2], *c.p["B"].shape))
    out = C_t[:, :, None, :] if widths[2] else np.broadcast_to(c.p["C"], (*u.shape[:2], *c.p["C"].shape))
    scale = 1
    if "A_imag" in c.p:
        A = A + 1j * c.p["A_imag"]
        into, out = (pair(v.reshape(*v.shape[:3], -1, 2)) for v in (into, out))
        scale = 2
    h = np.zeros((len(u), *A.shape), A.dtype)
    y = np.empty_like(u)
    for t in range(u.shape[1]):
        h = np.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * into[:, t]
        y[:, t] = scale * (h * out[:, t]).sum(-1).real + c.p["D"] * u[:, t]
    return y


def forward(c: Call):
    E = c.expand * c.x.shape[2]
    inner = linear(c, "in_proj", c.x)
    u = silu(short_conv(c, "conv1d", inner[..., :E]) if c.conv else inner[..., :E])
    if c.inner == "s6":
        rank = c.dt_rank or -(-c.x.shape[2] // 16)
        N = c.d_state * (2 if c.A_init == "complex" else 1)  # numbers of B_t
        y = selective(c, u, [rank * c.select_delta, N * c.select_B, N * c.select_C])
    else:
        y = invariant(c, u)
    return linear(c, "out_proj", y * silu(inner[..., E:]) if c.gate else y)
