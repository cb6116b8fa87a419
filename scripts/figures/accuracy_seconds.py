"""Accuracy against training time.

The same scores as against tokens, at equal wall-clock time instead. Only runs of one machine may be compared here.
"""

from ssmb import curves

ORDER = 11


def figure(runs):
    return curves.accuracy(runs, "seconds")
