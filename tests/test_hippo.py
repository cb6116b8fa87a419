"""Signals read back from the state of HiPPO systems, and the script that draws them: python tests/test_hippo.py"""

import unittest

import numpy as np
from stubbed import Case

from ssmb import hippo


def wave(t):
    return np.sin(3 * t) + 0.5 * np.cos(5 * t)


def error(found, wanted) -> float:
    return float(np.sqrt(np.mean((found - wanted[-len(found) :]) ** 2)))


class Hippo(Case):
    def test_exponential(self):
        turn = hippo.exponential(np.array([[0, -30.0], [30, 0]]))
        np.testing.assert_allclose(turn, [[np.cos(30), -np.sin(30)], [np.sin(30), np.cos(30)]], atol=1e-12)

    def test_scaled_legs_remembers_everything(self):
        half, f = (wave((np.arange(n) + 0.5) / n * 2) for n in (500, 1000))
        fine = error(hippo.whole_past(f, 32), f)
        self.assertLess(fine, 3e-5)  # that of holding samples, which goes with the square of their distance
        self.assertGreater(error(hippo.whole_past(half, 32), half), 3.5 * fine)
        bilinear = error(hippo.whole_past(f, 32, "bilinear"), f)
        self.assertLess(bilinear, 2e-3)
        self.assertGreater(bilinear, 2e-5)  # why log time is worth its exponentials
        self.assertGreater(error(hippo.whole_past(f, 4), f), 0.05)

    def test_legt_remembers_a_window(self):
        f = wave(np.linspace(0, 3, 3001))
        found = hippo.window(f, 24, 1000)
        self.assertEqual(len(found), 1001)
        self.assertLess(error(found, f), 1.2e-6)  # that of straight lines between samples
        coarse = wave(np.linspace(0, 3, 1501))
        self.assertAlmostEqual(error(hippo.window(coarse, 24, 500), coarse) / error(found, f), 4, delta=0.2)
        before = f.copy()
        before[:1000] += 3  # what has left the window is forgotten
        self.assertLess(error(hippo.window(before, 24, 1000), f), 1e-3)

    def test_legs_of_s4_fades(self):
        f = wave(np.linspace(0, 12, 3001))
        found = hippo.faded_past(f, 48, 12)
        recent = error(found[-500:], f)
        self.assertLess(recent, 0.01)
        self.assertGreater(float(np.sqrt(np.mean((found[:500] - f[:500]) ** 2))), 10 * recent)

    def test_the_script(self):
        where = self.tmp / "figures"
        done = self.script("hippo", "--to", where, "--samples", 400, "--cycles", 4)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(p.name for p in where.iterdir()), ["hippo.png", "hippo.svg"])
        rows = {line[:30].strip(): [float(v) for v in line[30:].split()] for line in done.stdout.splitlines()[1:-1]}
        self.assertEqual(len(rows), 3)
        for name, errors in rows.items():
            self.assertLess(errors[3], 0.1 * errors[0], name)
        refused = self.script("hippo", "--state", 0)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--state 0: allowed is an integer in [1, 128]", refused.stderr)


if __name__ == "__main__":
    unittest.main()
