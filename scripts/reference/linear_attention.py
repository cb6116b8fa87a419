"""Linear attention in its parallel form, with the normaliser of positive feature maps."""

import numpy as np
from shared import Call, linear, short_conv, silu
from shared_heads import heads_of, mix, read_out


def features(c: Call, x, name: str):
    if c.feature_map == "elu1":
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    if c.feature_map == "relu":
        return np.maximum(x, 0)
    if c.feature_map == "t2r":
        return np.maximum(linear(c, f"{name}.layer", x), 0)
    if c.feature_map == "hedgehog":
        x = linear(c, f"{name}.layer", x)
        e = np.exp(np.concatenate([x, -x], axis=-1))
        return e / e.sum(-1, keepdims=True)
    if c.feature_map == "dpfp":
        z = np.maximum(np.concatenate([x, -x], axis=-1), 0)
        return np.concatenate([z * np.roll(z, j, axis=-1) for j in range(1, c.nu + 1)], axis=-1)
    if c.feature_map == "hadamard":
        return linear(c, f"{name}.layer1", x) * linear(c, f"{name}.layer2", x)
    return x


def forward(c: Call):
    def project(name):
        y = linear(c, f"{name}_proj", c.x)
        return heads_of(silu(short_conv(c, f"{name}_conv1d", y)) if c.d_conv else y, c.heads)

    q, k, v = (project(name) for name in "qkv")
    scale = 1 / np.sqrt(q.shape[-1])
    q, k = features(c, q, "feature_map_q"), features(c, k, "feature_map_k")
    if c.normalise and c.feature_map not in ("identity", "hadamard"):
        o = mix(q, k, v) / (mix(q, k, np.ones_like(v[..., :1])) + 1e-10)
    else:
        o = mix(q * scale, k, v)
    return read_out(c, o, "norm" if c.output_norm else None, c.gate)
