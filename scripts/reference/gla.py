"""Gated linear attention in its parallel form: a decay per key channel, or per head, from the input."""

import numpy as np
from shared import Call, linear, short_conv, silu
from shared_heads import heads_of, mix, read_out


def log_decay(c: Call):
    if c.gate_kind == "none":
        return None
    if c.gate_kind == "constant":
        return np.log1p(-(2.0 ** (-5 - np.arange(c.heads))))[:, None]
    g = -np.logaddexp(0, -linear(c, "gk_proj.1", linear(c, "gk_proj.0", c.x))) / c.gate_normalizer
    return heads_of(np.maximum(g, c.clamp_min) if c.clamp_min < 0 else g, c.heads)


def forward(c: Call):
    def project(name):
        y = linear(c, f"{name}_proj", c.x)
        return heads_of(silu(short_conv(c, f"{name}_conv1d", y)) if c.d_conv else y, c.heads)

    q = project("q")
    o = mix(q / np.sqrt(q.shape[-1]), project("k"), project("v"), log_decay(c))
    return read_out(c, o, "g_norm", c.gate)
