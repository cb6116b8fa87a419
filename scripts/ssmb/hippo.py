"""HiPPO: a signal's past as the coefficients of polynomials, kept by a linear system, and read back from its state.

    legs        c' = (A c + B f)/t      f(s) = sum_n c_n(t) r_n P_n(2 s/t - 1)         all of the past, 0 <= s <= t
    legt        x' = (A x + B u)/theta  u(t - s) = sum_n x_n r_n P_n(1 - 2 s/theta)    a window, 0 <= s <= theta
    legs_fixed  x' = A x + B u          u(t - s) = sum_n x_n r_n P_n(2 e^-s - 1)       a past that fades, s >= 0

with r_n = sqrt(2n + 1) and Legendre's P_n. `legs` is HiPPO-LegS (Gu 2020), `legs_fixed` what S4 starts from (Gu 2022),
`legt` the translated measure. Everything in float64.
"""

import itertools

import numpy as np
from numpy.polynomial import legendre


def roots(N: int) -> np.ndarray:
    return np.sqrt(2 * np.arange(N) + 1)


def legs(N: int) -> tuple[np.ndarray, np.ndarray]:
    r = roots(N)
    return -np.tril(np.outer(r, r), -1) - np.diag(np.arange(N) + 1.0), r


def legt(N: int) -> tuple[np.ndarray, np.ndarray]:
    """For a window of 1."""
    n, k = np.indices((N, N))
    r = roots(N)
    return -np.outer(r, r) * np.where(n >= k, 1, (-1.0) ** (n - k)), r


def exponential(M: np.ndarray) -> np.ndarray:
    """e^M by Taylor's series of M/2^s, squared s times."""
    halvings = max(0, int(np.ceil(np.log2(max(np.abs(M).sum(1).max(), 1e-300)))) + 2)
    small, term, out = M / 2.0**halvings, np.eye(len(M)), np.eye(len(M))
    for k in range(1, 19):
        term = term @ small / k
        out = out + term
    for _ in range(halvings):
        out = out @ out
    return out


def held(A: np.ndarray, B: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """x <- E x + g u: the exact step for an input that is held."""
    N = len(A)
    M = np.zeros((N + 1, N + 1))
    M[:N, :N], M[:N, N] = A * step, B * step
    E = exponential(M)
    return E[:N, :N], E[:N, N]


def history(f: np.ndarray, N: int, method: str = "zoh") -> np.ndarray:
    """Coefficients of scaled LegS after all samples of f. zoh: exact in log time; bilinear: the published program's."""
    A, B = legs(N)
    c = np.zeros(N)
    c[0] = f[0]
    for k in range(2, len(f) + 1):
        if method == "zoh":
            E, g = held(A, B, np.log(k / (k - 1)))
            c = E @ c + g * f[k - 1]
        else:
            right = c + A @ c / (2 * k) + B / k * f[k - 1]
            c = np.linalg.solve(np.eye(N) - A / (2 * k), right)
    return c


def state(u: np.ndarray, A: np.ndarray, B: np.ndarray, step: float) -> np.ndarray:
    """x after samples u, `step` apart, of a system at rest; between samples the input is a straight line."""
    N = len(A)
    M = np.zeros((N + 2, N + 2))
    M[:N, :N], M[:N, N], M[N, N + 1] = A * step, B * step, 1
    E = exponential(M)
    x = np.zeros(N)
    for before, now in itertools.pairwise(u):
        x = E[:N, :N] @ x + E[:N, N] * before + E[:N, N + 1] * (now - before)
    return x


def read(coefficients: np.ndarray, z: np.ndarray) -> np.ndarray:
    """sum_n c_n r_n P_n(z)"""
    return legendre.legval(z, coefficients * roots(len(coefficients)))


def noise(count: int, cycles: int, seed: int) -> np.ndarray:
    """Band-limited noise: `cycles` harmonics with random phases, of deviation 1."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, cycles)
    t = np.arange(count) / count
    return np.sqrt(2 / cycles) * sum(np.sin(2 * np.pi * (k + 1) * t + p) for k, p in enumerate(phases))


def whole_past(f: np.ndarray, N: int, method: str = "zoh") -> np.ndarray:
    """What the state of scaled LegS says of every sample it has seen."""
    return read(history(f, N, method), 2 * (np.arange(len(f)) + 0.5) / len(f) - 1)


def window(f: np.ndarray, N: int, width: int) -> np.ndarray:
    """What the state of LegT says of the last `width` steps: width + 1 samples, oldest first."""
    x = state(f, *legt(N), 1 / width)
    return read(x, 1 - 2 * np.arange(width, -1, -1) / width)


def faded_past(f: np.ndarray, N: int, span: float) -> np.ndarray:
    """What the state of S4's LegS says of every sample, when all of them last `span`."""
    s = span * np.arange(len(f) - 1, -1, -1) / (len(f) - 1)
    return read(state(f, *legs(N), span / (len(f) - 1)), 2 * np.exp(-s) - 1)
