"""Softmax attention with the whole (T, T) matrix of scores."""

import math

import numpy as np
from shared import Call, linear


def slopes(heads: int):
    """ALiBi: a geometric sequence; heads beyond a power of two take every second slope of the next sequence."""
    near = 2 ** int(math.log2(heads))
    first = [2.0 ** (-8 * (h + 1) / near) for h in range(near)]
    return np.array(first + [2.0 ** (-8 * (2 * h + 1) / (2 * near)) for h in range(heads - near)])


def rotate(x):
    """RoPE on halves: x (B, T, heads, dh)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * 1e4 ** (-2.0 * np.arange(half) / x.shape[-1])
    turn = np.exp(1j * angle)[:, None, :]
    z = (x[..., :half] + 1j * x[..., half : 2 * half]) * turn
    return np.concatenate([z.real, z.imag, x[..., 2 * half :]], axis=-1)


def forward(c: Call):
    B, T, D = c.x.shape
    heads, shared = c.heads, c.kv_heads or c.heads
    dh, x = c.head_dim or D // heads, c.x
    t = np.arange(T)
    if c.positions == "learned":
        x = x + c.p["positions.weight"][:T]
    if c.positions == "sin":
        d = np.arange(D)
        angle = t[:, None] * 1e4 ** (-(d - d % 2) / D)
        x = x + np.where(d % 2, np.cos(angle), np.sin(angle))
    qkv = linear(c, "in_proj", x).reshape(B, T, heads + 2 * shared, dh)
    q, k, v = np.split(qkv, [heads, heads + shared], axis=2)
    if c.positions == "rope":
        q, k = rotate(q), rotate(k)
    k, v = (np.repeat(a, heads // shared, axis=2) for a in (k, v))
    lag = t[:, None] - t[None, :]
    scores = np.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(dh)
    if c.positions == "alibi":
        scores = scores - slopes(heads)[:, None, None] * np.abs(lag)
    seen = np.broadcast_to(lag >= 0, (B, T, T)) if c.causal else np.arange(T) < c.lengths[:, None, None]
    if c.window:
        seen = seen & (np.abs(lag) < c.window)
    scores = np.where(seen[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("bhij,bjhd->bihd", weights / weights.sum(-1, keepdims=True), v)
    return linear(c, "out_proj", mixed.reshape(B, T, heads * dh))
