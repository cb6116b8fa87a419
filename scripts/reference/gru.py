"""torch.nn.GRU: gates in the order r, z, n; r multiplies U_n h + b_hn."""

import numpy as np
from shared import Call, linear, sigmoid


def forward(c: Call):
    B, T, D = c.x.shape
    x, H = c.x, c.hidden or D
    for n in range(c.layers):
        p = {kind: c.p[f"{kind}_l{n}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        h = np.tile(c.p[f"h0_l{n}"], (B, 1)) if c.learn_start else np.zeros((B, H))
        out = np.empty((B, T, H))
        for t in range(T):
            from_x = np.split(x[:, t] @ p["weight_ih"].T + p["bias_ih"], 3, axis=1)
            from_h = np.split(h @ p["weight_hh"].T + p["bias_hh"], 3, axis=1)
            r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
            out[:, t] = h = (1 - z) * np.tanh(from_x[2] + r * from_h[2]) + z * h
        x = out
    return x if H == D else linear(c, "out_proj", x)
