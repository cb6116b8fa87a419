"""H3: shift kernel, products of heads, diagonal kernel, contraction with the queries."""

import numpy as np
from hyena import implicit
from s4d import discrete
from shared import Call, linear, long_conv, pair


def taps(K, T: int):
    """A kernel (H, n) cut or filled up to T taps."""
    return np.pad(K, ((0, 0), (0, max(0, T - K.shape[1]))))[:, :T]


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


def forward(c: Call):
    B, T, D = c.x.shape
    m = c.head_dim
    q, k, v = (linear(c, f"{name}_proj", c.x) for name in "qkv")
    if c.shift:
        k = long_conv(taps(shift_kernel(c), T), k) + c.p["ssm_k_D"] * k
    q, k, v = (a.reshape(B, T, D // m, m) for a in (q, k, v))
    products = np.einsum("bthi,bthj->bthij", k, v).reshape(B, T, D * m)  # of head h: m * m in a row
    K = np.repeat(memory_kernel(c, T), m * m, axis=0)
    kept = long_conv(K, products)
    if "D" in c.p:
        kept += np.repeat(c.p["D"], m * m) * products
    o = np.einsum("bthi,bthij->bthj", q, kept.reshape(B, T, D // m, m, m))
    return linear(c, "output_linear", o.reshape(B, T, D))
