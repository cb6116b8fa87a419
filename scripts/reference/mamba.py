"""Mamba: the recurrence of S6, one position after the other."""

import numpy as np
from shared import Call, linear, short_conv, silu, softplus


def selective(c: Call, u, widths):
    """S6 of u (B, T, E). widths: columns of u's projection for delta, B and C; 0 where that is a parameter."""
    A = -np.exp(c.p["A_log"])
    if sum(widths):
        low, B_t, C_t = np.split(linear(c, "x_proj", u), np.cumsum(widths)[:-1], axis=-1)
    raw = low @ c.p["dt_proj.weight"].T if widths[0] else np.zeros(u.shape)
    delta = softplus(raw + c.p["dt_proj.bias"])
    h = np.zeros((len(u), *A.shape))
    y = np.empty_like(u)
    for t in range(u.shape[1]):
        into = B_t[:, t, None, :] if widths[1] else c.p["B"]
        out = C_t[:, t, None, :] if widths[2] else c.p["C"]
        h = np.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * into
        y[:, t] = (h * out).sum(-1) + c.p["D"] * u[:, t]
    return y


def forward(c: Call):
    N, E = c.d_state, c.expand * c.x.shape[2]
    rank = c.dt_rank or -(-c.x.shape[2] // 16)
    inner = linear(c, "in_proj", c.x)
    u = silu(short_conv(c, "conv1d", inner[..., :E]) if c.conv else inner[..., :E])
    y = selective(c, u, [rank * c.select_delta, N * c.select_B, N * c.select_C])
    if c.gate:
        y *= silu(inner[..., E:])
    return linear(c, "out_proj", y)
