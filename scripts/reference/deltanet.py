"""DeltaNet: the delta rule with transitions written as matrices, S <- (1 - beta k k^T) e^g S + beta k v^T."""

import numpy as np
from shared import Call, linear, short_conv, sigmoid, silu, softplus
from shared_heads import heads_of, read_out


def forward(c: Call):
    def project(name, unit):
        y = linear(c, f"{name}_proj", c.x)
        y = heads_of(silu(short_conv(c, f"{name}_conv1d", y) if c.d_conv else y), c.heads)
        return y / np.sqrt((y**2).sum(-1, keepdims=True) + 1e-6) if unit else y

    q, k, v = project("q", True), project("k", True), project("v", False)
    beta = np.ones(k.shape[:3])
    if c.learned_beta:
        beta = (2 if c.negative else 1) * sigmoid(linear(c, "b_proj", c.x))
    decay = np.ones(k.shape[:3])
    if c.gated:
        decay = np.exp(-np.exp(c.p["A_log"]) * softplus(linear(c, "a_proj", c.x) + c.p["dt_bias"]))
    S = np.zeros((*k.shape[:1], *k.shape[2:], v.shape[-1]))
    o = np.empty_like(v)
    for t in range(k.shape[1]):
        key = k[:, t, :, :, None]
        transition = np.eye(key.shape[2]) - beta[:, t, :, None, None] * key * key.swapaxes(2, 3)
        S = transition @ (decay[:, t, :, None, None] * S) + beta[:, t, :, None, None] * key * v[:, t, :, None]
        o[:, t] = np.einsum("bhkv,bhk->bhv", S, q[:, t]) / np.sqrt(q.shape[-1])
    return read_out(c, o, "o_norm", c.gate)
