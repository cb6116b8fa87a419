"""Ablations: differences, pairing, intervals, doubt, two sweeps against each other: python tests/test_effects.py"""

import unittest
from pathlib import Path

import numpy as np
from stubbed import Case

from ssmb import effect_tables, effects, figures, results
from ssmb.series import group


def run(seed: int, score: float, metric: str = "accuracy", **keys) -> results.Run:
    """A finished run; __ stands for the dot of a key."""
    config = {"task": "listops", "model.variant": "s4d", "s4d.init": "legs", "train.lr": 0.01}
    config |= {k.replace("__", "."): v for k, v in keys.items()} | {"seed.init": seed, "seed.data": seed}
    row = {"step": [100], "split": np.array(["test"]), "metric": [score], "examples": [1000], "tokens_real": [10]}
    evals = {k: np.asarray(v) for k, v in row.items()}
    created = f"2025-01-01T00:00:{seed:02d}Z"
    run = results.Run(Path(f"{score}.h5"), "x", created, "complete", config=config, task={"metric": metric})
    run.train, run.evals = {"step": np.array([100])}, evals
    return run


def sweep(base: list[float], **others: list[float]) -> list:
    """Seeds 1, 2, ... of the base, and of one key changed to the name given: init_lin=[...]."""
    runs = [run(i + 1, v) for i, v in enumerate(base)]
    for name, values in others.items():
        key, value = name.rsplit("_", 1)
        runs += [run(i + 1, v, **{key: value}) for i, v in enumerate(values)]
    return group(runs)


class Effects(unittest.TestCase):
    def test_the_base_is_what_all_others_are_near(self):
        base, found = effects.ablation(sweep([0.5] * 3, s4d__init_lin=[0.4] * 3, train__lr_1=[0.6] * 3))
        self.assertEqual(base.runs[0].config["s4d.init"], "legs")
        self.assertEqual([e.change for e in found], ["train.lr = 1", "s4d.init = lin"])  # largest gain first
        np.testing.assert_allclose([e.difference for e in found], [0.1, -0.1])

    def test_of_two_settings_the_first_run_is_the_base(self):
        series = group([run(2, 0.4, s4d__init="lin"), run(1, 0.5)])
        self.assertEqual(effects.ablation(series)[0].runs[0].config["s4d.init"], "legs")

    def test_pairing_removes_what_the_data_do(self):
        noise = np.array([0.0, 0.1, -0.1, 0.2])
        _, (e,) = effects.ablation(sweep(list(0.5 + noise), s4d__init_lin=list(0.52 + noise)))
        self.assertTrue(e.paired)
        np.testing.assert_allclose((e.difference, e.difference_low, e.difference_high), 0.02, atol=1e-12)
        self.assertEqual(e.mark, "under 2 sd")  # all the same: other data would move it more
        self.assertAlmostEqual(e.pooled, float(np.std(noise, ddof=1)))
        self.assertLess(e.low, e.mean)
        self.assertGreater(e.high, e.mean)

    def test_without_partners_the_sides_are_resampled_apart(self):
        base = group([run(i, 0.5 + 0.01 * i) for i in (1, 2, 3)])[0]
        other = group([run(i, 0.6 + 0.01 * i, s4d__init="lin") for i in (4, 5, 6)])[0]
        e = effects.effect(other, base, "x")
        self.assertFalse(e.paired)
        self.assertAlmostEqual(e.difference, 0.13)
        self.assertTrue(0.11 <= e.difference_low < 0.13 < e.difference_high <= 0.15)
        self.assertEqual(e.mark, "")

    def test_bootstrap_covers_the_mean_of_a_normal_sample(self):
        draw = np.random.default_rng(5)
        intervals = [effects.bootstrap(draw.normal(1.0, 1.0, 30)) for _ in range(200)]
        self.assertTrue(0.88 <= np.mean([low <= 1.0 <= high for low, high in intervals]) <= 0.99)

    def test_one_seed_is_said(self):
        _, (e,) = effects.ablation(sweep([0.5], s4d__init_lin=[0.9]))
        self.assertEqual(e.mark, "one seed")
        self.assertNotEqual(e.low, e.low)

    def test_tables(self):
        series = sweep([0.5, 0.51, 0.52], s4d__init_lin=[0.4, 0.42, 0.41], train__lr_1=[0.51, 0.5, 0.52])
        runs = [r for s in series for r in s.runs]
        text = effect_tables.ablations(runs)
        for word in ("s4d.init = lin", "−10.0", "paired", "under 2 sd", "(base)"):
            self.assertIn(word, text)
        self.assertEqual(effect_tables.ablations(runs[:3]), "")
        later = [run(i, 0.6 + 0.01 * i) for i in (1, 2, 3)] + [run(1, 0.5, "accuracy", s4d__init="inv")]
        text = effect_tables.against(later, runs, "old")
        self.assertIn("+11.0", text)
        self.assertIn("Only here: s4d init=inv", text)
        self.assertIn("Only in old", text)
        self.assertIn("No setting is in both", effect_tables.against(later[-1:], runs, "old"))

    def test_forest(self):
        forest = next(f for f in figures.discover() if f.name == "ablation")
        series = sweep([0.5, 0.51, 0.52], s4d__init_lin=[0.4, 0.42, 0.41])
        canvas = forest.draw([r for s in series for r in s.runs])
        self.assertEqual([t.get_text() for t in canvas.axes[0].get_yticklabels()], ["s4d.init = lin"])
        self.assertIsNone(forest.draw(series[0].runs))


class Report(Case):
    def test_against_another_folder(self):
        self.sweep('grid(base, {"variant": ["s4d", "mamba"], "seed": [1, 2]})')
        made = self.script("report", "--from", self.tmp / "out", "--against", self.tmp / "out")
        self.assertEqual(made.returncode, 0, made.stderr)
        text = (self.tmp / "out" / "report.html").read_text()
        for word in ('id="differences"', 'id="against"', "× 1.00", "+0.0"):
            self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
