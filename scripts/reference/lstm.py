"""torch.nn.LSTM: gates in the order i, f, g, o; and the one with layer norms."""

import numpy as np
from shared import Call, layer_norm, linear, sigmoid


def normalised(c: Call, x, layer: str, H: int):
    from_x = layer_norm(c, f"norm_ih_{layer}", linear(c, f"ih_{layer}", x))
    h, cell = np.zeros((2, x.shape[0], H))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(
            from_x[:, t] + layer_norm(c, f"norm_hh_{layer}", h @ c.p[f"weight_hh_{layer}"].T), 4, axis=1
        )
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, f"norm_c_{layer}", cell))
        out.append(h)
    return np.stack(out, axis=1)


def forward(c: Call):
    B, T, D = c.x.shape
    x, H = c.x, c.hidden or D
    for n in range(c.layers):
        if c.layer_norm:
            x = normalised(c, x, f"l{n}", H)
            continue
        weights = [c.p[f"{kind}_l{n}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        start = np.zeros((2, H))
        if c.learn_start:
            start = np.stack([c.p[f"h0_l{n}"], c.p[f"c0_l{n}"]])
        h, cell = np.repeat(start[:, None], B, axis=1)
        out = np.empty((B, T, H))
        for t in range(T):
            i, f, g, o = np.split(x[:, t] @ weights[0].T + weights[2] + h @ weights[1].T + weights[3], 4, axis=1)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            out[:, t] = h = sigmoid(o) * np.tanh(cell)
        x = out
    return x if H == D else linear(c, "out_proj", x)
