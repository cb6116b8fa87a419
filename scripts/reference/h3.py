"""H3: shift kernel, products of heads, diagonal kernel, contraction with the queries."""

import numpy as np
from hyena import implicit
from mamba import selective
from s4d import discrete
from shared import Call, linear, long_conv, pair, taps


def shift_kernel(c: Call):
    B, C = c.p["ssm_k_kernel.B"], c.p["ssm_k_kernel.C"].reshape(c.p["ssm_k_kernel.B"].shape)
    N = B.shape[1]
    return np.stack([(C[:, i:] * B[:, : N - i]).sum(1) for i in range(N)], axis=1)


def memory_kernel(c: Call, T: int):
    """(H, T)"""
    if c.inner == "hyena":
        return taps(implicit(c, c.x.shape[2] // c.head_dim, (0.3, 1.5)).T, T)
    if c.inner == "longconv":
        return taps(c.p["kernel"].reshape(-1, c.l_max), T)
    lam = -np.exp(c.p["kernel.A_real"]) - 1j * c.p["kernel.A_imag"]
    A, B = discrete(c.disc, lam, pair(c.p["kernel.B"][0]), np.exp(c.p["kernel.inv_dt"]))
    powers = A[:, :, None] ** np.arange(T)
    return 2 * np.einsum("hm,hm,hmt->ht", pair(c.p["kernel.C"][0]), B, powers).real


def remember(c: Call, products):
    """(B, T, H, m, m) through the memory of each head."""
    B, T, H, m, _ = products.shape
    if c.inner == "s6":
        widths = [-(-H // 16), c.d_state, c.d_state]
        kept = [[selective(c, products[..., i, j], widths) for j in range(m)] for i in range(m)]
        return np.moveaxis(np.array(kept), (0, 1), (3, 4))
    flat = products.reshape(B, T, -1)  # of head h: m * m in a row
    kept = long_conv(np.repeat(memory_kernel(c, T), m * m, axis=0), flat)
    if "D" in c.p:
        kept += np.repeat(c.p["D"], m * m) * flat
    return kept.reshape(products.shape)


def forward(c: Call):
    B, T, D = c.x.shape
    m = c.head_dim
    q, k, v = (linear(c, f"{name}_proj", c.x) for name in "qkv")
    if c.shift:
        k = long_conv(taps(shift_kernel(c), T), k) + c.p["ssm_k_D"] * k
    q, k, v = (a.reshape(B, T, D // m, m) for a in (q, k, v))
    kept = remember(c, np.einsum("bthi,bthj->bthij", k, v))
    o = np.einsum("bthi,bthij->bthj", q, kept)
    return linear(c, "output_linear", o.reshape(B, T, D))
