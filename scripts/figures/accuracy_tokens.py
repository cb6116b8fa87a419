"""Accuracy against training tokens.

Lines: validation, mean over seeds, the band from the lowest to the highest seed. Ringed marks: final test score. Grey
lines: what a model reaches by chance, by the task's shortcut alone (floor), and by evaluating the top k levels of
every tree exactly (level k).
"""

from ssmb import curves

ORDER = 10


def figure(runs):
    return curves.accuracy(runs, "tokens_real")
