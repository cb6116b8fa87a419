"""Selective DPLR by dense matrices on all conjugate modes, one solve a position and channel."""

import numpy as np
from shared import Call, gelu, glu, linear, pair, sigmoid, softplus

BUFFERS = ("dt_bias",)


def steps(c: Call, scope: str, u):
    """Delta (B, T, R)."""
    B, T, _ = u.shape
    raw = np.zeros((B, T, c.heads))
    if c.delta == "mean":
        mean = np.stack([x[:n].mean(0) for x, n in zip(u, c.lengths, strict=True)])
        raw = raw + (mean @ c.p[scope + "dt_proj.weight"].T)[:, None]
    if c.delta == "running":
        raw = np.cumsum(u, axis=1) / np.arange(1, T + 1)[:, None] @ c.p[scope + "dt_proj.weight"].T
    return softplus(raw + c.p[scope + "dt_bias"])


def one_way(c: Call, scope: str, u):
    B, T, D = u.shape
    M, R = c.d_state // 2, c.heads
    lam = -np.exp(c.p[scope + "A_real"]) + 1j * c.p.get(scope + "A_imag", 0)
    P = pair(c.p[scope + "P"]).reshape(c.rank, R, M) if c.rank else []
    into, out = (np.repeat(pair(c.p[scope + k]), D // R if c.BC == "head" else 1, axis=0) for k in "BC")
    delta = steps(c, scope, u)
    gate = np.ones((B, T, R, M))
    if c.gate != "off":
        gate = np.broadcast_to(sigmoid(linear(c, scope + "gate_proj", u)).reshape(B, T, R, -1), gate.shape)
    y = c.p[scope + "D"] * u
    eye = np.eye(2 * M)
    for r in range(R):
        A = np.diag(np.concatenate([lam[r], lam[r].conj()]))
        for column in P:
            p = np.concatenate([column[r], column[r].conj()])
            A = A - np.outer(p, p.conj())
        own = slice(r * D // R, (r + 1) * D // R)
        wide_in = np.concatenate([into[own], into[own].conj()], axis=1)
        wide_out = np.concatenate([out[own], out[own].conj()], axis=1)
        for b in range(B):
            h = np.zeros((D // R, 2 * M), complex)
            for t in range(T):
                dt = delta[b, t, r]
                h = h * np.tile(gate[b, t, r], 2)
                rhs = h @ (eye + dt / 2 * A).T + dt * wide_in * u[b, t, own, None]
                h = np.linalg.solve(eye - dt / 2 * A, rhs.T).T
                y[b, t, own] += (h * wide_out).sum(1).real
    return y


def forward(c: Call):
    y = one_way(c, "", c.x)
    if c.bidirectional:
        y = y + one_way(c, "back.", c.x[:, ::-1])[:, ::-1]
    y = linear(c, "output_linear", gelu(y))
    return glu(y) if c.glu else y
