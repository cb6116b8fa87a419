"""Heads of linear attention in their parallel form: a (T, T) matrix of scores with decays."""

import numpy as np
from shared import Call, linear, rms, silu


def heads_of(x, heads: int):
    return x.reshape(*x.shape[:2], heads, -1)


def mix(q, k, v, log_decay=None):
    """o_i = sum over j <= i of (q_i . exp(g_{j+1} + .. + g_i) k_j) v_j; q, k, g (B, T, heads, K), v (.., V)."""
    T = q.shape[1]
    g = np.zeros_like(k) if log_decay is None else np.broadcast_to(log_decay, k.shape)
    b = np.cumsum(g, axis=1)
    apart = b[:, :, None] - b[:, None, :]  # (B, i, j, heads, K)
    causal = (np.arange(T)[:, None] >= np.arange(T))[None, :, :, None, None]
    weight = np.where(causal, np.exp(np.where(causal, apart, 0)), 0)
    return np.einsum("bihk,bijhk,bjhk,bjhv->bihv", q, weight, k, v, optimize=True)


def read_out(c: Call, o, norm: str | None, gate: bool):
    """RMS norm per head, the gate of the input, and the output projection."""
    if norm:
        o = rms(o) * c.p[f"{norm}.weight"]
    o = o.reshape(*o.shape[:2], -1)
    return linear(c, "o_proj", o * silu(linear(c, "g_proj", c.x)) if gate else o)
