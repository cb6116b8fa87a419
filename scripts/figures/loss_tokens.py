"""Training loss against training tokens.

Loss of the training batches, a moving average over 5 % of each curve; band: lowest to highest seed.
"""

from ssmb import curves

ORDER = 20


def figure(runs):
    return curves.loss(runs, "tokens_real")
