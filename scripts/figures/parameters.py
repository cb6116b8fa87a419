"""Parameters.

Trainable numbers of the whole model: embedding, layers and head.
"""

from ssmb import bars

ORDER = 41


def figure(runs):
    return bars.bars(runs, lambda run: float(run.model.get("parameters", "nan")), "trainable parameters")
