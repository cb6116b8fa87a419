"""The main job in minutes: five mixers on depth-6 ListOps. S4D trains for three minutes, the others less."""

from ssmb.points import zip_

base = {
    "task": "listops",
    "listops.depth": 6,
    "listops.min_length": 100,
    "listops.max_length": 250,
    "depth": 4,
    "model.d_model": 64,
    "train.steps": 1_000_000,
    "train.eval_every": 100,
    "seed": 1,
}

points = zip_(
    base,
    {
        "variant": ["s4d", "s4", "mamba", "attention", "cnn"],
        "train.seconds": [180, 50, 50, 50, 50],
    },
)
