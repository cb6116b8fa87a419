"""Accuracy against training FLOPs.

The same scores at equal declared work instead: what the operations of forward and backward passes add up to, whatever
their speed.
"""

import numpy as np

from ssmb import curves

ORDER = 12


def figure(runs):
    return curves.accuracy([r for r in runs if np.isfinite(r.flops_per_step())], "flops")
