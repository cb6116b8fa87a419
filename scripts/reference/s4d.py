"""S4D as its kernel K_l = 2 Re sum_n C_n Bbar_n Abar_n^l, by powers of Abar."""

import numpy as np
from shared import Call, pair, ssm_layer, ssm_parameters

BUFFERS = ("kernel.B", "kernel.A_real")


def discrete(kind: str, lam, B, delta, longest=0):
    z = lam * delta
    if kind == "zoh":
        return np.exp(z), B * np.expm1(z) / lam
    if kind == "dss":
        return np.exp(z), B * np.expm1(z) / (lam * np.expm1(z * longest))
    if kind == "exp_euler":
        return np.exp(z), B * delta
    if kind == "bilinear":
        return (1 + z / 2) / (1 - z / 2), B * delta / (1 - z / 2)
    if kind == "backward_euler":
        return 1 / (1 - z), B * delta / (1 - z)
    raise NotImplementedError(f"discretisation {kind}")


def forward(c: Call):
    delta, lam, B = ssm_parameters(c)
    A, B = discrete(c.disc, lam, B, delta, c.l_max)
    C = c.p["kernel.C"]
    C = pair(C) if C.shape[-1] == 2 else C[..., 0] + 0j  # (kernels, H, M)
    powers = A[:, :, None] ** np.arange(c.x.shape[1])
    return ssm_layer(c, 2 * np.einsum("khm,hm,hmt->kht", C, B, powers).real)
