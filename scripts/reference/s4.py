"""S4 by dense matrices on all conjugate modes: A = diag(lambda) - P Q^T, bilinear, C from C~ = (I - A^L)^T C."""

import numpy as np
from shared import Call, pair, ssm_layer, ssm_parameters

BUFFERS = ("kernel.B", "kernel.P")


def whole(v):
    """A half set of modes and its conjugates."""
    return np.concatenate([v, v.conj()], axis=-1)


def forward(c: Call):
    T, H = c.x.shape[1:]
    delta, lam, B = ssm_parameters(c)
    P = pair(c.p["kernel.P"])  # (rank, S, M)
    Q = pair(c.p["kernel.Q"]) if c.low_rank == "free" else P.conj()
    tilde = pair(c.p["kernel.C"])  # (kernels, H, M)
    L = int(c.p["kernel.l_kernel"][0]) if "kernel.l_kernel" in c.p else c.l_max
    K = np.zeros((len(tilde), H, T))
    for h in range(H):
        p, q = whole(P[:, h % P.shape[1]]), whole(Q[:, h % P.shape[1]])
        A = np.diag(whole(lam[h])) - p.T @ q
        eye = np.eye(len(A))
        left = eye - delta[h] / 2 * A
        A_bar = np.linalg.solve(left, eye + delta[h] / 2 * A)
        state = np.linalg.solve(left, delta[h] * whole(B[h]))
        C = np.linalg.solve((eye - np.linalg.matrix_power(A_bar, L)).T, whole(tilde[:, h]).T).T
        for t in range(T):
            K[:, h, t] = (C @ state).real
            state = A_bar @ state
    return ssm_layer(c, K)
