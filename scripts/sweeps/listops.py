"""ListOps in the form of the Long Range Arena (depth 10, lengths 501 to 1999), five mixers, fifteen minutes each."""

from ssmb.points import grid

base = {
    "task": "listops",
    "listops.depth": 10,
    "listops.min_length": 500,
    "listops.max_length": 2000,
    "depth": 6,
    "model.d_model": 128,
    "train.seconds": 900,
    "train.steps": 1_000_000,
    "train.eval_every": 100,
    "seed": 1,
}

points = grid(base, {"variant": ["s4d", "s4", "mamba", "attention", "cnn"]})
