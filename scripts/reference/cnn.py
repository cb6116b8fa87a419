"""One block of the temporal convolutional network: shifted copies of the input, one product a tap."""

import numpy as np
from shared import Call, layer_norm, usual

NORMS = ("conv1_norm", "conv2_norm")
BUFFERS = (*(f"{n}.running_{what}" for n in NORMS for what in ("mean", "var")), "conv1.weight_g", "conv2.weight_g")


def draw(name: str, shape, rng):
    value = usual(name, shape, rng)
    return value**2 + 0.1 if name.endswith("running_var") else value


def settled_norm(c: Call, name: str, x):
    """A batch norm in evaluation."""
    p = {what: c.p[f"{name}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")}
    return (x - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]


def convolve(c: Call, name: str, x, spread: int):
    w = c.p[name + (".weight_v" if c.weight_norm else ".weight")]  # (out, in, taps)
    if c.weight_norm:
        w = w * c.p[name + ".weight_g"] / np.linalg.norm(w, axis=(1, 2), keepdims=True)
    taps, T = w.shape[2], x.shape[1]
    left = (taps - 1 if c.causal else (taps - 1) // 2) * spread
    padded = np.pad(x, ((0, 0), (left, (taps - 1) * spread), (0, 0)))
    y = sum(padded[:, j * spread : j * spread + T] @ w[:, :, j].T for j in range(taps))
    return y if c.inner_norm == "batch" else y + c.p[name + ".bias"]


def forward(c: Call):
    spread = c.dilation or c.dilation_base ** (c.layer % c.dilation_cycle)
    h = c.x
    norm = {"none": lambda c, name, h: h, "layer": layer_norm, "batch": settled_norm}[c.inner_norm]
    for name in ("conv1", "conv2"):
        h = np.maximum(norm(c, name + "_norm", convolve(c, name, h, spread)), 0)
    return np.maximum(h + c.x, 0) if c.residual else h
