"""S5: y = 2 Re(C x) + D u, discretised per mode."""

import numpy as np
from shared import Call, pair
from shared_mimo import both_ways


def draw(name: str, shape, rng):
    """Decaying modes in continuous and discrete time alike: where the real part is free, others overflow."""
    if name == "Lambda_re":
        return -rng.uniform(0.05, 0.7, shape)
    if name == "Lambda_im":
        return rng.uniform(-0.7, 0.7, shape)
    return rng.standard_normal(shape) * (1 / np.sqrt(shape[1]) if len(shape) == 3 else 1)


def forward(c: Call):
    re = np.minimum(c.p["Lambda_re"], -1e-4) if c.clip_eigs else c.p["Lambda_re"]
    a = re + 1j * c.p["Lambda_im"]
    step = np.exp(c.p.get("log_step", np.zeros(1))).reshape(-1)
    z = step * a
    if c.param == "discrete":
        lam, gain = c.p["Lambda_re"] + 1j * c.p["Lambda_im"], np.ones(len(a))
    elif c.disc == "zoh":
        lam, gain = np.exp(z), np.expm1(z) / a
    else:
        lam, gain = (1 + z / 2) / (1 - z / 2), step / (1 - z / 2)
    if "C" in c.p:
        Cs = np.split(pair(c.p["C"]), 2 if c.bidirectional else 1, axis=1)
    else:
        Cs = [pair(c.p["C1"]), pair(c.p["C2"])]
    return both_ways(c, lam, gain[:, None] * pair(c.p["B"]), Cs, 2)
