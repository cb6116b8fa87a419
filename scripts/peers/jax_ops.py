#!/usr/bin/env python3
"""An S5 layer in JAX as a process that is asked for samples on standard input; see serving.py.

    scripts/peers/jax_ops.py s5_layer --shape 64 1024 128 128 --device cuda    # then "20"

y = 2 Re(C x) + D u, x_t = lambda x_{t-1} + B u_t by associative_scan, N / 2 complex modes, u (B,T,D); jit. A sample is
eight calls by the steady clock, the last result waited for; seconds are those of one.
"""

import argparse
import os
import sys
import time

from serving import serve

CALLS = 8


def prepare(a: argparse.Namespace):
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_PLATFORMS"] = a.device
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if a.precision == "tf32" else "float32")
    batch, length, width, modes = *a.shape[:3], a.shape[3] // 2

    def compose(earlier, later):
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]

    def layer(lam, b, c, d, u):
        bu = jnp.einsum("ph,blh->blp", b, u.astype(jnp.complex64))
        decay = jnp.broadcast_to(lam, (length, modes))
        x = jax.vmap(lambda row: jax.lax.associative_scan(compose, (decay, row))[1])(bu)
        return 2 * jnp.einsum("hp,blp->blh", c, x).real + d * u

    keys = iter(jax.random.split(jax.random.PRNGKey(0), 7))

    def draw(*shape):
        return jax.random.normal(next(keys), shape)

    lam = jnp.exp((-0.5 + 1j * jnp.arange(modes)) * 0.01).astype(jnp.complex64)
    b, c = (draw(*s) + 1j * draw(*s) for s in ((modes, width), (width, modes)))
    u = draw(batch, length, width)
    given = (lam, b.astype(jnp.complex64), c.astype(jnp.complex64), draw(width), u)
    dy = draw(batch, length, width)
    forward = jax.jit(layer)
    backward = jax.jit(lambda dy, *given: jax.vjp(layer, *given)[1](dy))
    phases = {"forward": lambda: forward(*given), "forward_backward": lambda: backward(dy, *given)}
    for run in phases.values():
        jax.block_until_ready(run())

    def timed(run) -> float:
        start = time.perf_counter()
        jax.block_until_ready([run() for _ in range(CALLS)])
        return (time.perf_counter() - start) / CALLS

    said = {"version": f"JAX {jax.__version__}", "scan": "JAX associative_scan", "every": CALLS}
    return said, lambda n: {"seconds": {name: [timed(run) for _ in range(n)] for name, run in phases.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", choices=["s5_layer"])
    parser.add_argument("--shape", nargs=4, type=int, required=True, metavar=("B", "T", "D", "N"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=["jit"], default="jit")
    parser.add_argument("--precision", choices=["fp32", "tf32"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    return serve(lambda: prepare(a))


if __name__ == "__main__":
    sys.exit(main())
