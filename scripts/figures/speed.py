"""Training speed.

Tokens per second of whole training steps (forward, backward, update), padding not counted: median over the reports of
a run.
"""

from ssmb import bars

ORDER = 30


def figure(runs):
    return bars.bars(runs, lambda run: run.tokens_per_second(), "training tokens per second (more is better)")
