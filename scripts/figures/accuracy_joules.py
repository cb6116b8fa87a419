"""Accuracy against training energy.

The same scores at equal energy: joules of the training steps, evaluation not counted, as the counter of the device or
of the processor packages says. Only runs of one machine may be compared here.
"""

import numpy as np

from ssmb import curves

ORDER = 13


def figure(runs):
    measured = [r for r in runs if np.isfinite(r.total("joules"))]
    if runs and not measured:
        said = sorted({str(r.energy.get("reason") or "not recorded") for r in runs})
        return f"no run has joules: {'; '.join(said)}"
    return curves.accuracy(measured, "joules")
