"""Mamba-2 in its quadratic form: masked, decayed scores of C and B."""

import numpy as np
from shared import Call, linear, rms, short_conv, silu, softplus
from shared_heads import heads_of, mix


def forward(c: Call):
    E, G, N = c.expand * c.x.shape[2], c.n_groups, c.d_state
    heads = E // min(c.headdim, E // G)
    if c.projections == "parallel":
        z, xBC, dt = np.split(linear(c, "in_proj", c.x), [E, 2 * E + 2 * G * N], axis=-1)
        x, B, C = np.split(silu(short_conv(c, "conv1d", xBC)), [E, E + G * N], axis=-1)
    else:
        z, x = np.split(linear(c, "in_proj", c.x), 2, axis=-1)
        x = silu(short_conv(c, "conv1d", x))
        B, C, dt = np.split(linear(c, "x_proj", x), [G * N, 2 * G * N], axis=-1)
    x = heads_of(x, heads)
    B, C = (np.repeat(heads_of(a, G), heads // G, axis=2) for a in (B, C))
    delta = softplus(dt + c.p["dt_bias"])
    if c.dt_limit > 0:
        delta = np.minimum(delta, c.dt_limit)
    y = mix(C, B, x * delta[..., None], (-delta * np.exp(c.p["A_log"]))[..., None])
    if c.skip:
        y = y + c.p["D"].reshape(heads, -1) * x
    y = y.reshape(z.shape)
    if c.norm == "before_gate":
        y = rms(y) * c.p["norm.weight"]
    y = y * silu(z)
    if c.norm == "after_gate":
        y = rms(y) * c.p["norm.weight"]
    return linear(c, "out_proj", y)
