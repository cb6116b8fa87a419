"""RetNet in its parallel form: rotated queries and keys, one fixed decay per head."""

import numpy as np
from shared import Call, linear, short_conv, silu
from shared_heads import heads_of, mix, read_out


def rotate(x, interleaved: bool):
    K, t = x.shape[-1], np.arange(x.shape[1])
    half = K // 2
    i = np.arange(half)
    angle = t[:, None] * 1e4 ** -(i / max(half - 1, 1) if interleaved else 2 * i / K)
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (slice(half), slice(half, 2 * half))
    )
    z = (x[..., first] + 1j * x[..., second]) * np.exp(1j * angle)[:, None]
    out = x.copy()
    out[..., first], out[..., second] = z.real, z.imag
    return out


def forward(c: Call):
    def project(name):
        y = linear(c, f"{name}_proj", c.x)
        return heads_of(silu(short_conv(c, f"{name}_conv1d", y)) if c.d_conv else y, c.heads)

    q, k, v = (project(name) for name in "qkv")
    if c.rotary != "none":
        q, k = rotate(q, c.rotary == "interleaved"), rotate(k, c.rotary == "interleaved")
    place = np.zeros(c.heads) if c.decay == "single" else np.arange(c.heads)
    g = None if c.decay == "none" else np.log1p(-(2.0 ** (-5 - place)))[:, None]
    o = mix(q / np.sqrt(q.shape[-1]), k, v, g)
    return read_out(c, o, "g_norm" if c.output_norm else None, c.gate)
