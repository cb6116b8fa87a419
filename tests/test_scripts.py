"""sweep, plot and report against a stand-in for the binary (tests/stub_program.py): python tests/test_scripts.py"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))
sys.dont_write_bytecode = True

from ssmb import venv

venv.require("numpy", "h5py", "matplotlib", "rich")

import numpy as np

from ssmb import figures, page, points, program, results, series, style
from ssmb.program import BadInput

BASE = '{"task": "listops", "listops.depth": 6, "train.steps": 100, "variant": "s4d"}'


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tmp = Path(folder.name)
        stub = self.tmp / "ssmbench"
        stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/stub_program.py" "$@"\n')
        stub.chmod(0o755)
        os.environ["SSMBENCH"] = str(stub)
        os.environ["STUB_SHA"] = "a" * 40
        program.registry.cache_clear()

    def script(self, name: str, *words) -> subprocess.CompletedProcess:
        command = [sys.executable, "-B", str(SCRIPTS / name), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def write(self, expression: str, base: str = BASE) -> Path:
        path = self.tmp / "mine.py"
        path.write_text(f"from ssmb.points import grid, one_off, zip_\nbase = {base}\npoints = {expression}\n")
        return path

    def sweep(self, expression: str, *words, base: str = BASE) -> subprocess.CompletedProcess:
        return self.script("sweep", self.write(expression, base), "--out", self.tmp / "out", *words)

    def runs(self) -> list[results.Run]:
        return results.load(self.tmp / "out")


class Points(unittest.TestCase):
    def test_grid_is_every_combination(self):
        got = points.grid({"a": 1}, {"b": [1, 2], "c": ["x", "y"], "d": 5})
        self.assertEqual(len(got), 4)
        self.assertEqual(got[1], {"a": 1, "b": 1, "c": "y", "d": 5})

    def test_one_off_changes_one_key_at_a_time(self):
        got = points.one_off({"a": 1, "b": 1}, {"a": [1, 2], "b": [3]})
        self.assertEqual(got, [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 3}])

    def test_zip_refuses_unequal_lengths(self):
        self.assertEqual(points.zip_({}, {"a": [1, 2], "b": [3, 4]}), [{"a": 1, "b": 3}, {"a": 2, "b": 4}])
        with self.assertRaisesRegex(BadInput, "'b': 1"):
            points.zip_({}, {"a": [1, 2], "b": [3]})

    def test_values_travel_as_the_command_line_writes_them(self):
        said = program.arguments({"a": True, "b": 0.001, "c": "zoh", "d": 6})
        self.assertEqual(said, ["--a", "true", "--b", "0.001", "--c", "zoh", "--d", "6"])


class Validation(Case):
    def refused(self, change: str, *words: str):
        done = self.sweep(f"[base | {change}]")
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        for word in ("point 1 of 1", *words):
            self.assertIn(word, done.stderr)
        self.assertFalse((self.tmp / "out").exists())

    def test_names_culprit_and_nearest(self):
        self.refused('{"variant": "s4dd"}', "s4dd", "did you mean s4d?")
        self.refused('{"task": "lisops"}', "lisops", "did you mean listops?")
        self.refused('{"s4d.d_stat": 1}', "did you mean s4d.d_state?")
        self.refused('{"trian.steps": 1}', "did you mean train.steps?")

    def test_type_and_range(self):
        self.refused('{"s4d.d_state": "x"}', "s4d.d_state", "not an integer")
        self.refused('{"s4d.d_state": 0}', "outside [1, 4096]")
        self.refused('{"s4d.init": "legz"}', "lin, inv, legs")
        self.refused('{"train.seconds": "long"}', "not a number")
        self.refused('{"seed": -1}', "outside [0")

    def test_key_without_effect(self):
        self.refused('{"mamba.d_state": 16}', "does nothing here")
        self.refused('{"run.out": "x"}', "set by sweep")

    def test_the_program_has_the_last_word(self):
        self.refused('{"seed": 7}', "7 is refused")

    def test_hybrid_patterns_are_taken_apart(self):
        keys = points.Keys(program.registry())
        keys.check({"task": "listops", "layers": "mamba*3,s4d", "mamba.d_state": 16, "s4d.init": "inv"})
        with self.assertRaisesRegex(BadInput, "unknown variant mambo"):
            keys.check({"task": "listops", "layers": "mambo*3,s4d"})

    def test_faulty_files_are_told_in_one_line(self):
        for expression, word in (("1 / 0", "ZeroDivisionError"), ("[]", "at least one"), ("grid(base, 3)", "Error")):
            done = self.sweep(expression)
            self.assertEqual(done.returncode, 2)
            self.assertIn(word, done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        done = self.script("sweep", self.tmp / "none.py")
        self.assertEqual(done.returncode, 2)
        self.assertIn("quickstart", done.stderr)

    def test_missing_binary_is_explained(self):
        os.environ["SSMBENCH"] = str(self.tmp / "nothing")
        done = self.sweep("[base]")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cmake --preset openmp", done.stderr)


class Sweep(Case):
    def test_runs_then_resumes(self):
        first = self.sweep('grid(base, {"seed": [1, 2]}) + [base | {"seed": 1}]', "--workers", 2)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertIn("1 of 3 points repeat", first.stdout)
        self.assertIn("2 complete", first.stdout)
        stamps = [r.path.stat().st_mtime_ns for r in self.runs()]
        second = self.sweep('grid(base, {"seed": [1, 2, 3]})')
        self.assertIn("2 left as they are, 1 to run", second.stdout)
        self.assertEqual([r.path.stat().st_mtime_ns for r in self.runs()][:2], stamps)

    def test_failures_cost_one_run_and_are_named(self):
        done = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1]})')
        self.assertEqual(done.returncode, 1)
        for word in ("loss is not finite", "needs 1 TiB", "SIGKILL", "disk is full"):
            self.assertIn(word, done.stdout)
        self.assertIn("1 complete, 1 skipped, 1 diverged, 2 failed", done.stdout)
        again = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1]})')
        self.assertIn("3 left as they are, 2 to run", again.stdout)
        failed = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1, 2]})', "--failed")
        self.assertIn("2 left as they are, 4 to run", failed.stdout)
        self.assertIn("1 not run", failed.stdout)

    def test_stale_results_are_told_and_redone_on_request(self):
        self.sweep("[base]")
        os.environ["STUB_SHA"] = "b" * 40
        self.assertIn("1 results come from another code version", self.sweep("[base]").stdout)
        self.assertEqual(self.runs()[0].version[0], "a")
        self.assertIn("1 to run", self.sweep("[base]", "--rerun-stale").stdout)
        self.assertEqual(self.runs()[0].version[0], "b")

    def test_interrupt_stops_the_child_and_keeps_the_rest(self):
        path = self.write('grid(base, {"seed": [1, 12, 2]})')
        command = [sys.executable, "-B", str(SCRIPTS / "sweep"), str(path), "--out", str(self.tmp / "out")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(self.tmp.glob("out/*.h5"))) < 2:
            time.sleep(0.1)
        busy = self.script("sweep", path, "--out", self.tmp / "out")
        self.assertEqual(busy.returncode, 1)
        self.assertIn("another sweep", busy.stderr)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        self.assertNotIn("Traceback", err)
        self.assertIn("1 complete, 1 interrupted, 1 not run", out)
        self.assertEqual(sorted(r.state for r in self.runs()), ["complete", "interrupted"])

    def test_dry_run_runs_nothing(self):
        done = self.sweep('grid(base, {"seed": [1, 2]})', "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"seed=2.*1,000.*1\.0.*10 k")
        self.assertFalse((self.tmp / "out").exists())

    def test_sweeps_of_the_project_load(self):
        for path in (SCRIPTS / "sweeps").glob("*.py"):
            self.assertEqual(len({p["variant"] for p in points.load(path)}), 5, path)


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
        self.assertEqual(style.mark("gla"), style.mark("gla"))
        self.assertNotIn(style.mark("gla"), style.FIXED.values())
        self.assertEqual(len(set(style.FIXED.values())), len(style.FIXED))

    def test_every_figure_has_a_title_and_takes_no_runs(self):
        for figure in figures.discover():
            self.assertTrue(figure.title and figure.caption, figure.name)
            self.assertIsNone(figure.draw([]), figure.name)
        self.assertEqual(page.drawing(figures.discover()[0], []), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
