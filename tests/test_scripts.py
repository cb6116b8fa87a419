"""plot and report, and the numbers behind them: python tests/test_scripts.py"""

import os
import re
import unittest

import numpy as np
from stubbed import Case

from ssmb import figures, marks, page, results, series, style


class Results(Case):
    def test_figures_and_report_of_a_folder_with_everything_in_it(self):
        self.sweep('grid(base, {"variant": ["s4d", "mamba", "brand_new"], "seed": [1, 2]}) + [base | {"seed": 8}]')
        out = self.tmp / "out"
        (out / "cut.h5").write_bytes(self.runs()[0].path.read_bytes()[:3000])
        drawn = self.script("plot", "all", "--from", out, "--to", self.tmp / "pictures")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        self.assertIn("7 of 8 runs used", drawn.stderr)
        names = {p.stem for p in self.tmp.glob("pictures/*.png")}
        self.assertEqual(names, {p.stem for p in self.tmp.glob("pictures/*.svg")})
        self.assertLessEqual({"accuracy_tokens", "accuracy_seconds", "loss_tokens", "speed", "memory"}, names)
        self.assertLessEqual({"parameters", "variant_task", "slices"}, names)
        made = self.script("report", "--from", out, "--out", self.tmp / "page.html")
        self.assertEqual(made.returncode, 0, made.stderr)
        text = (self.tmp / "page.html").read_text()
        for word in ("brand_new", "loss is not finite", "truncated", "2 seeds", "top 1 levels", "<svg", "a" * 12):
            self.assertIn(word, text)
        self.assertNotRegex(text, r'(src|href)="(https?:)?//')
        self.assertNotIn(style.INK, text.split("<main>")[1])
        ids = re.findall(r'\bid="([^"]+)"', text)
        self.assertEqual({i for i in ids if not i.startswith("DejaVu") and ids.count(i) > 1}, set())

    def test_mixed_runs_need_permission(self):
        self.sweep('grid(base, {"seed": [1, 2]})')
        os.environ["STUB_SHA"] = "b" * 40
        self.sweep('grid(base, {"seed": [3]})')
        for script, words in (("plot", ("speed", "--to", self.tmp / "p")), ("report", ())):
            refused = self.script(script, *words, "--from", self.tmp / "out")
            self.assertEqual(refused.returncode, 2)
            self.assertIn("2 code versions", refused.stderr)
            allowed = self.script(script, *words, "--from", self.tmp / "out", "--allow-mixed")
            self.assertEqual(allowed.returncode, 0, allowed.stderr)

    def test_bad_input(self):
        (self.tmp / "empty").mkdir()
        for words, said in (
            (("speeed", "--from", self.tmp), "did you mean speed?"),
            (("speed", "--from", self.tmp / "nothing"), "no folder"),
            (("speed", "--from", self.tmp / "empty"), "no result files"),
        ):
            done = self.script("plot", *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)

    def test_foreign_files_are_unreadable_not_fatal(self):
        (self.tmp / "text.h5").write_text("not HDF5")
        (self.tmp / "x.ckpt.h5").write_text("a checkpoint is not a result")
        runs = results.load(self.tmp)
        self.assertEqual([r.state for r in runs], ["unreadable"])
        self.assertTrue(runs[0].reason)

    def test_numbers_of_a_run(self):
        self.sweep('[base | {"seed": 1}]')
        run = self.runs()[0]
        self.assertEqual((run.mixer, run.task_name, run.seed), ("s4d", "listops", "1/?"))
        self.assertAlmostEqual(run.tokens_per_second(), 10000)
        self.assertAlmostEqual(run.last_eval()["metric"], 0.421)
        self.assertEqual(run.last_slices(), {"root=MIN": 0.6})  # the slice without examples is left out
        self.assertEqual(run.planned_bytes(), {"activations": 1e6, "params": 4000})


class Numbers(unittest.TestCase):
    def test_wilson(self):
        low, high = series.wilson(0.5, 100)
        self.assertAlmostEqual(low, 0.4038, 4)
        self.assertAlmostEqual(high, 0.5962, 4)
        self.assertGreaterEqual(series.wilson(0.0, 10)[0], -1e-12)

    def test_t_interval(self):
        mean, low, high = series.mean_interval([1.0, 2.0, 3.0])
        self.assertAlmostEqual(mean, 2.0)
        self.assertAlmostEqual(high - mean, 4.303 / np.sqrt(3), 4)
        self.assertAlmostEqual(mean - low, 4.303 / np.sqrt(3), 4)

    def test_band_uses_the_shared_range(self):
        x, mean, low, high = series.band([(np.array([0.0, 2.0]), np.array([0.0, 2.0])), (np.array([1.0, 3.0]),) * 2])
        self.assertEqual((x[0], x[-1]), (1.0, 2.0))
        np.testing.assert_allclose(mean, x)
        np.testing.assert_allclose(high - low, 0, atol=1e-12)

    def test_labels_keep_their_distance(self):
        got = style.spread([1.0, 1.1, 1.2, 5.0], 1.0, 0.0, 10.0)
        self.assertGreaterEqual(min(np.diff(got)), 1 - 1e-6)
        self.assertGreaterEqual(got[0], 0)
        self.assertAlmostEqual(got[3], 5.0)
        crowded = style.spread([9.9] * 5, 1.0, 0.0, 10.0)
        self.assertGreaterEqual(min(np.diff(sorted(crowded))), 1 - 1e-6)
        self.assertLessEqual(max(crowded), 10)

    def test_marks_are_fixed_and_told_apart(self):
        self.assertEqual(style.mark("brand_new"), style.mark("brand_new"))
        self.assertNotIn(style.mark("brand_new"), marks.FIXED.values())
        self.assertEqual(len(set(marks.FIXED.values())), len(marks.FIXED))

    def test_every_figure_has_a_title_and_takes_no_runs(self):
        for figure in figures.discover():
            self.assertTrue(figure.title and figure.caption, figure.name)
            self.assertIsNone(figure.draw([]), figure.name)
        self.assertEqual(page.drawing(figures.discover()[0], []), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
