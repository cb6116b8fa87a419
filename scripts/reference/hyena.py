"""Hyena: implicit kernels from a sine MLP over features of time, under a window; gates between convolutions."""

import numpy as np
from shared import Call, gelu, linear, long_conv, pair, short_conv, silu


def features(c: Call):
    """Features z (l_max, emb) of time and t itself."""
    L = c.l_max
    t = np.linspace(0, 1, L) if L > 1 else np.zeros(1)
    if "filter_fn.pos_emb.z" in c.p:
        return c.p["filter_fn.pos_emb.z"].reshape(L, -1), t
    bands = (c.emb_dim - 1) // 2
    f = np.linspace(1e-4, bands - 1, bands)
    angle = f * (2 * np.pi * np.arange(L) / L)[:, None]
    return np.concatenate([t[:, None], np.cos(angle), -np.sin(angle)], axis=1), t


def fourier(c: Call, name: str):
    z = pair(c.p[name])  # (D, modes)
    waves = np.exp(2j * np.pi * np.outer(np.arange(z.shape[1]), np.arange(c.l_max)) / c.l_max)
    return (z @ waves).real


def transfer(c: Call, name: str):
    """The first l_max coefficients of numerator / (1 + denominator), by solving for what times that gives the first."""
    up, down = c.p[f"{name}.numerator"], c.p[f"{name}.denominator"]
    L = c.l_max
    lag = np.subtract.outer(np.arange(L), np.arange(L))
    K = np.zeros((up.shape[0], L))
    for row, (b, a) in enumerate(zip(up, down, strict=True)):
        whole = np.zeros(L + 1)
        whole[0], whole[1 : len(a) + 1] = 1, a[:L]
        product = np.where(lag >= 0, whole[np.clip(lag, 0, None)], 0)
        K[row] = np.linalg.solve(product, np.pad(b, (0, L))[:L])
    return K


def states(c: Call, place: str):
    kernel = {name: c.p[f"{place}.kernel.{name}"] for name in ("inv_dt", "A_real", "A_imag", "B", "C")}
    lam = -np.exp(kernel["A_real"]) - 1j * kernel["A_imag"]
    z = lam * np.exp(kernel["inv_dt"])
    gain = pair(kernel["C"][0]) * pair(kernel["B"][0]) * np.expm1(z) / lam
    K = 2 * np.einsum("hm,hmt->ht", gain, np.exp(z[:, :, None] * np.arange(c.l_max))).real
    K[:, 0] += c.p[f"{place}.D"]
    return K


def kernels(c: Call):
    """One (D, l_max) for each long convolution, and what it adds of its input itself."""
    D, count = c.x.shape[2], c.order - 1
    if c.filter == "explicit":
        return [c.p[f"filter_fn.kernel{o}"].reshape(D, c.l_max) for o in range(count)]
    if c.filter == "ssm":
        return [states(c, f"filter_fn.{o}") for o in range(count)]
    if c.filter in ("fourier", "transfer"):
        return [(fourier if c.filter == "fourier" else transfer)(c, f"filter_fn.kernel{o}") for o in range(count)]
    h = implicit(c, D * count, (c.decay_fast, c.decay_slow) if c.window else None, c.shift)
    return list(h.T.reshape(count, D, c.l_max))


def implicit(c: Call, rows: int, window, shift=0.0):
    """The kernels (l_max, rows) of the MLP; window: shares of l_max at which fastest and slowest are 0.01."""
    s, t = features(c)
    freq = c.p["filter_fn.implicit_filter.1.freq"].reshape(-1)
    for place in (0, 2, 4):
        s = np.sin(freq * linear(c, f"filter_fn.implicit_filter.{place}", s))
    h = linear(c, "filter_fn.implicit_filter.6", s)  # (l_max, D count)
    if window:
        rates = np.linspace(np.log(1e-2) / window[1], np.log(1e-2) / window[0], rows)
        h = h * (np.exp(-t[:, None] * np.abs(rates)) + shift)
    h[0] += c.p["filter_fn.bias"].reshape(-1)
    return h


def forward(c: Call):
    T, D = c.x.shape[1:]
    x = linear(c, "in_proj", c.x)
    if c.short_conv:
        x = short_conv(c, "short_filter", x)
    *gates, v = np.split(x, x.shape[2] // D, axis=2)
    for o, K in enumerate(kernels(c)):
        v = long_conv(K[:, :T], v * gates[c.order - 1 - o] if c.gates == "all" else v)
    if c.gates != "none":
        v = v * gates[0]
    return linear(c, "out_proj", {"id": lambda y: y, "gelu": gelu, "silu": silu}[c.act](v))
