"""Mamba: the recurrence of S6, one position after the other."""

import numpy as np
from shared import Call, linear, pair, short_conv, silu, softplus


def forward(c: Call):
    B, T, D = c.x.shape
    E, is_complex = c.expand * D, c.A_init == "complex"
    N = c.d_state * (2 if is_complex else 1)  # numbers of B_t
    rank = c.dt_rank or -(-D // 16)
    inner = linear(c, "in_proj", c.x)
    u = silu(short_conv(c, "conv1d", inner[..., :E]) if c.conv else inner[..., :E])
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
    if c.gate:
        y *= silu(inner[..., E:])
    return linear(c, "out_proj", y)
