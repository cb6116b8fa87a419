"""One block of the temporal convolutional network: shifted copies of the input, one product a tap."""

import numpy as np
from shared import Call, layer_norm


def convolve(c: Call, name: str, x, spread: int):
    w = c.p[name + (".weight_v" if c.weight_norm else ".weight")]  # (out, in, taps)
    if c.weight_norm:
        w = w * c.p[name + ".weight_g"] / np.linalg.norm(w, axis=(1, 2), keepdims=True)
    taps, T = w.shape[2], x.shape[1]
    left = (taps - 1 if c.causal else (taps - 1) // 2) * spread
    padded = np.pad(x, ((0, 0), (left, (taps - 1) * spread), (0, 0)))
    return sum(padded[:, j * spread : j * spread + T] @ w[:, :, j].T for j in range(taps)) + c.p[name + ".bias"]


def forward(c: Call):
    spread = c.dilation or c.dilation_base ** (c.layer % c.dilation_cycle)
    h = c.x
    for name in ("conv1", "conv2"):
        h = convolve(c, name, h, spread)
        h = np.maximum(layer_norm(c, name + "_norm", h) if c.inner_norm == "layer" else h, 0)
    return np.maximum(h + c.x, 0) if c.residual else h
