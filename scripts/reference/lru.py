"""The linear recurrent unit: y = Re(C x) + D u, without a factor of two."""

import numpy as np
from shared import Call, linear
from shared_mimo import both_ways, gated


def draw(name: str, shape, rng):
    """Inside the unit circle."""
    if name == "nu":
        return rng.uniform(0.01, 1, shape)
    if name in ("lambda_re", "lambda_im"):
        return rng.uniform(-0.6, 0.6, shape)
    return rng.standard_normal(shape) * (1 / np.sqrt(shape[1]) if len(shape) > 1 else 0.5)


def dense(c: Call, name: str, u):
    """C x of x_t = A x_{t-1} + B u_t, as a sum over powers of A."""
    w = linear(c, "B", u)
    x = np.zeros_like(w)
    for lag in range(u.shape[1]):
        x[:, lag:] += w[:, : u.shape[1] - lag] @ np.linalg.matrix_power(c.p["A"], lag).T
    return linear(c, name, x)


def forward(c: Call):
    p = c.p
    if "A" in p:
        y = p["D"] * c.x + dense(c, "C", c.x)
        if c.bidirectional:
            y = y + dense(c, "C2", c.x[:, ::-1])[:, ::-1]
        return gated(c, y)
    if "nu_log" in p:
        lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    elif "nu" in p:
        lam = np.exp(-p["nu"] + 1j * p["theta"])
    else:
        lam = p["lambda_re"] + 1j * p["lambda_im"]
    gain = np.exp(p["gamma_log"])[:, None] if c.gamma else 1
    Cs = [p[f"{name}_re"] + 1j * p[f"{name}_im"] for name in (("C", "C2") if c.bidirectional else ("C",))]
    return both_ways(c, lam, gain * (p["B_re"] + 1j * p["B_im"]), Cs, 1)
