"""Selective DPLR by dense matrices on all conjugate modes, one solve a position and channel."""

import numpy as np
from shared import Call, gelu, glu, linear, pair, sigmoid, softplus

BUFFERS = ("dt_bias",)


def steps(c: Call):
    """Delta (B, T, R)."""
    B, T, _ = c.x.shape
    raw = np.zeros((B, T, c.heads))
    if c.delta == "mean":
        mean = np.stack([x[:n].mean(0) for x, n in zip(c.x, c.lengths, strict=True)])
        raw = raw + (mean @ c.p["dt_proj.weight"].T)[:, None]
    if c.delta == "running":
        raw = np.cumsum(c.x, axis=1) / np.arange(1, T + 1)[:, None] @ c.p["dt_proj.weight"].T
    return softplus(raw + c.p["dt_bias"])


def forward(c: Call):
    B, T, D = c.x.shape
    M, R = c.d_state // 2, c.heads
    lam = -np.exp(c.p["A_real"]) + 1j * c.p["A_imag"]
    P = pair(c.p["P"]) if c.rank else np.zeros_like(lam)
    into, out = pair(c.p["B"]), pair(c.p["C"])
    delta = steps(c)
    gate = np.ones((B, T, R, M))
    if c.gate != "off":
        gate = np.broadcast_to(sigmoid(linear(c, "gate_proj", c.x)).reshape(B, T, R, -1), gate.shape)
    y = c.p["D"] * c.x
    eye = np.eye(2 * M)
    for r in range(R):
        p = np.concatenate([P[r], P[r].conj()])
        A = np.diag(np.concatenate([lam[r], lam[r].conj()])) - np.outer(p, p.conj())
        own = slice(r * D // R, (r + 1) * D // R)
        wide_in = np.concatenate([into[own], into[own].conj()], axis=1)
        wide_out = np.concatenate([out[own], out[own].conj()], axis=1)
        for b in range(B):
            h = np.zeros((D // R, 2 * M), complex)
            for t in range(T):
                dt = delta[b, t, r]
                h = h * np.tile(gate[b, t, r], 2)
                rhs = h @ (eye + dt / 2 * A).T + dt * wide_in * c.x[b, t, own, None]
                h = np.linalg.solve(eye - dt / 2 * A, rhs.T).T
                y[b, t, own] += (h * wide_out).sum(1).real
    y = linear(c, "output_linear", gelu(y))
    return glu(y) if c.glu else y
