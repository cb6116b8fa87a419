"""Mamba: the recurrence of S6, one position after the other."""

import numpy as np
from shared import Call, linear, short_conv, silu, softplus


def forward(c: Call):
    B, T, D = c.x.shape
    N, E = c.d_state, c.expand * D
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
    A = -np.exp(c.p["A_log"])
    h = np.zeros((B, E, N))
    y = np.empty_like(u)
    for t in range(T):
        into = B_t[:, t, None, :] if c.select_B else c.p["B"]
        out = C_t[:, t, None, :] if c.select_C else c.p["C"]
        h = np.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * into
        y[:, t] = (h * out).sum(-1) + c.p["D"] * u[:, t]
    if c.gate:
        y *= silu(inner[..., E:])
    return linear(c, "out_proj", y)
