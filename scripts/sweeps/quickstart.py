"""The main job in minutes: five mixers on depth-6 ListOps, S4D for four minutes, the others for fifty seconds."""

from ssmb.points import zip_

base = {
    "task": "listops",
    "listops.depth": 6,
    "listops.min_length": 100,
    "listops.max_length": 250,
    "depth": 4,
    "model.d_model": 64,
    "train.batch": 32,
    "train.steps": 1_000_000,
    "train.eval_every": 200,
    "train.eval_examples": 500,
    "train.test_examples": 2000,
    "seed": 1,
}

# Both directions, batch norm after the residual sum, a small state: the published recipe of S4 and S4D for ListOps.
published = {"model.norm": "batch", "model.place": "post"}

points = zip_(
    base,
    {
        "variant": ["s4d", "s4", "mamba", "attention", "cnn"],
        "train.seconds": [240, 50, 50, 50, 50],
        "train.lr": [0.01, 0.01, 0.003, 0.002, 0.002],
    },
)
for point in points:
    if point["variant"] in ("s4d", "s4"):
        point |= published | {f"{point['variant']}.bidirectional": True, f"{point['variant']}.d_state": 4}
