"""ListOps in the form of the Long Range Arena (depth 10, lengths 501 to 1999): five mixers, fifteen minutes each.

The answer is read at the first position, as the Transformers of the LRA read it, so every mixer looks both ways. The
mean over 1200 positions, which S4 reads, tells a model of its first operator by a thousandth of the gradient: s4, mamba
and cnn then spend these minutes at the frequencies of the ten digits (a loss of 2.24).
"""

from ssmb.points import zip_

base = {
    "task": "listops",
    "depth": 4,
    "model.d_model": 64,
    "model.pooling": "first",
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
both_ways = {
    "s4d": published | {"s4d.bidirectional": True, "s4d.d_state": 4},
    "s4": published | {"s4.bidirectional": True, "s4.d_state": 4},
    "mamba": {"model.bidirectional": "sum"},
    "attention": {"attention.causal": False},
    "cnn": {"cnn.causal": False},
}
for point in points:
    point |= both_ways[point["variant"]]
