"""Hyena: implicit kernels from a sine MLP over features of time, under a window; gates between convolutions."""

import numpy as np
from shared import Call, gelu, linear, long_conv, short_conv, silu


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


def kernels(c: Call):
    """One (D, l_max) for each long convolution, and what it adds of its input itself."""
    D, count = c.x.shape[2], c.order - 1
    if c.filter == "explicit":
        return [c.p[f"filter_fn.kernel{o}"].reshape(D, c.l_max) for o in range(count)]
    s, t = features(c)
    freq = c.p["filter_fn.implicit_filter.1.freq"].reshape(-1)
    for place in (0, 2, 4):
        s = np.sin(freq * linear(c, f"filter_fn.implicit_filter.{place}", s))
    h = linear(c, "filter_fn.implicit_filter.6", s)  # (l_max, D count)
    if c.window:
        rates = np.linspace(np.log(1e-2) / 1.5, np.log(1e-2) / 0.3, D * count)
        h = h * (np.exp(-t[:, None] * np.abs(rates)) + c.shift)
    h[0] += c.p["filter_fn.bias"].reshape(-1)
    return list(h.T.reshape(count, D, c.l_max))


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
