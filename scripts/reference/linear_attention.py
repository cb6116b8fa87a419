"""Linear attention in its parallel form, with the normaliser of positive feature maps."""

import numpy as np
from shared import Call, linear
from shared_heads import heads_of, mix, read_out


def features(c: Call, x, name: str):
    if c.feature_map == "elu1":
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    if c.feature_map == "relu":
        return np.maximum(x, 0)
    if c.feature_map == "hadamard":
        return linear(c, f"{name}.layer1", x) * linear(c, f"{name}.layer2", x)
    return x


def forward(c: Call):
    q, k, v = (heads_of(linear(c, f"{name}_proj", c.x), c.heads) for name in "qkv")
    q, k = features(c, q, "feature_map_q"), features(c, k, "feature_map_k")
    if c.normalise and c.feature_map in ("elu1", "relu"):
        o = mix(q, k, v) / (mix(q, k, np.ones_like(v[..., :1])) + 1e-10)
    else:
        o = mix(q / np.sqrt(q.shape[-1]), k, v)
    return read_out(c, o, "norm" if c.output_norm else None, False)
