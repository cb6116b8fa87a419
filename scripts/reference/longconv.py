"""LongConv: explicit kernels, smoothed, squashed, convolved."""

import numpy as np
from shared import Call, gelu, glu, linear, two_sided


def forward(c: Call):
    T, H = c.x.shape[1:]
    L, ways = min(c.taps or c.l_max, c.l_max), 2 if c.bidirectional else 1
    K = c.p["kernel"].reshape(ways, c.channels * H, L)
    padded = np.pad(K, ((0, 0), (0, 0), (c.smooth, c.smooth)))
    K = sum(padded[..., i : i + L] for i in range(2 * c.smooth + 1)) / (2 * c.smooth + 1)
    K = np.sign(K) * np.maximum(np.abs(K) - c.squash, 0)
    K = np.pad(K, ((0, 0), (0, 0), (0, max(0, T - L))))[..., :T]
    u = np.tile(c.x, c.channels)
    y = linear(c, "output_linear", gelu(two_sided(K, u) + c.p["D"].reshape(-1) * u))
    return glu(y) if c.glu else y
