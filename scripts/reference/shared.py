"""What the reference implementations share: a call of a mixer, and the layers around its core. Float64 throughout."""

import math
from dataclasses import dataclass

import numpy as np


class Missing(AttributeError, KeyError):
    """A knob or a parameter that the program does not have."""

    def __str__(self):
        return str(self.args[0])


class Parameters(dict):
    def __missing__(self, name):
        raise Missing(name)


@dataclass
class Call:
    """One mixer on one batch: p holds its parameters by the names that `ssmbench describe` prints."""

    p: dict[str, np.ndarray]
    x: np.ndarray  # (B, T, D)
    knobs: dict
    lengths: np.ndarray  # (B), valid positions
    l_max: int
    layer: int = 0
    depth: int = 1

    def __post_init__(self):
        self.p = Parameters(self.p)

    def __getattr__(self, name):  # a knob reads like a member
        knobs = self.__dict__.get("knobs", {})
        if name not in knobs:
            raise Missing(name)
        return knobs[name]


def usual(_name: str, shape, rng):
    """Random parameters: matrices that keep the size of what they multiply, vectors of half of one."""
    scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.5
    return scale * rng.standard_normal(shape)


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.where(x > 20, x, np.logaddexp(0, x))


erf = np.vectorize(math.erf, otypes=[float])


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def linear(c: Call, name: str, x):
    y = x @ c.p[name + ".weight"].T
    return y + c.p[name + ".bias"] if name + ".bias" in c.p else y


def layer_norm(c: Call, name: str, x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * c.p[name + ".weight"] + c.p[name + ".bias"]


def rms(x, eps=1e-5):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def glu(x):
    value, gate = np.split(x, 2, axis=-1)
    return value * sigmoid(gate)


def pair(x):
    """A trailing axis (re, im) as complex numbers."""
    return x[..., 0] + 1j * x[..., 1]


def short_conv(c: Call, name: str, x):
    """Depthwise causal convolution over time: weight (channels, 1, w)."""
    w = c.p[name + ".weight"][:, 0]
    padded = np.pad(x, ((0, 0), (w.shape[1] - 1, 0), (0, 0)))
    y = sum(padded[:, k : k + x.shape[1]] * w[:, k] for k in range(w.shape[1]))
    return y + c.p[name + ".bias"] if name + ".bias" in c.p else y


def taps(K, T: int):
    """A kernel (H, n) cut or filled up to T taps."""
    return np.pad(K, ((0, 0), (0, max(0, T - K.shape[1]))))[:, :T]


def long_conv(K, u):
    """y_t = sum over s of K_s u_{t-s} per channel, by matrix products: K (H, T), u (B, T, H)."""
    T = u.shape[1]
    lag = np.subtract.outer(np.arange(T), np.arange(T))
    toeplitz = np.where(lag >= 0, K[:, np.clip(lag, 0, None)], 0)  # (H, T, T)
    return np.einsum("hts,bsh->bth", toeplitz, u)


def two_sided(K, u):
    """K (1 or 2, H, T): the second kernel reads the future from the next sample on."""
    y = long_conv(K[0], u)
    if len(K) > 1:
        later = long_conv(K[1], u[:, ::-1])[:, ::-1]
        y[:, :-1] += later[:, 1:]
    return y


def ssm_layer(c: Call, kernels):
    """u -> K * u + D u -> GELU -> linear -> GLU: what S4 and S4D put around their kernels."""
    y = gelu(two_sided(kernels, c.x) + c.p["D"].reshape(-1) * c.x)
    y = linear(c, "output_linear", y)
    return glu(y) if c.glu else y


def ssm_parameters(c: Call):
    """Per channel: delta (H, 1 or M), lambda and B (H, M) complex, as S4 and S4D store them."""
    H, n_sets = c.x.shape[2], c.p["kernel.A_real"].shape[0]
    step = c.p["kernel.inv_dt"]
    delta = softplus(step) if c.dt_transform == "softplus" else np.exp(step)
    sets = np.arange(H) % n_sets
    raw, decay = c.p["kernel.A_real"], c.knobs.get("decay", "exp")
    lam = {"relu": -np.maximum(raw, 0) - 1e-4, "none": -raw}.get(decay, -np.exp(raw)) + 0j
    if "kernel.A_imag" in c.p:
        lam = lam - 1j * c.p["kernel.A_imag"]
    B = c.p["kernel.B"][0]
    B = pair(B) if B.shape[-1] == 2 else B[..., 0] + 0j
    return delta, lam[sets], B[sets]
