"""ListOps in the form of the Long Range Arena (depth 10, lengths 501 to 1999): five mixers, fifteen minutes each."""

from ssmb.points import zip_

base = {
    "task": "listops",
    "depth": 4,
    "model.d_model": 64,
    "train.batch": 16,
    "train.seconds": 900,
    "train.steps": 1_000_000,
    "train.eval_every": 200,
    "train.eval_examples": 200,
    "train.test_examples": 1000,
    "seed": 1,
}
published = {"model.norm": "batch", "model.place": "post"}

points = zip_(
    base,
    {
        "variant": ["s4d", "s4", "mamba", "attention", "cnn"],
        "train.lr": [0.01, 0.01, 0.003, 0.002, 0.002],
    },
)
for point in points:
    if point["variant"] in ("s4d", "s4"):
        point |= published | {f"{point['variant']}.bidirectional": True, f"{point['variant']}.d_state": 4}
