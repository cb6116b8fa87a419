"""Sweep files: designs, seeds, equal widths, validation: python tests/test_designs.py"""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path

import numpy as np
from stubbed import Case

from ssmb import points, program, width
from ssmb.program import BadInput


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

    def test_random_and_latin_draw_the_same_points_again(self):
        axes = {"lr": points.Range(1e-4, 1e-1, "log"), "n": points.Range(1, 8, "whole"), "v": ["x", "y"], "one": 5}
        for design in (points.random, points.latin):
            got = design({"a": 1}, axes, 8, seed=3)
            self.assertEqual(got, design({"a": 1}, axes, 8, seed=3))
            self.assertNotEqual(got, design({"a": 1}, axes, 8, seed=4))
            self.assertTrue(all(1e-4 <= p["lr"] <= 1e-1 and p["one"] == 5 and p["a"] == 1 for p in got))
        self.assertEqual(sorted(p["n"] for p in got), list(range(1, 9)))  # each of eight parts once
        self.assertEqual(sorted(p["v"] for p in got), ["x"] * 4 + ["y"] * 4)
        self.assertEqual(len({int(8 * (np.log10(p["lr"]) + 4) / 3) for p in got}), 8)
        for bad in (lambda: points.Range(1, 1), lambda: points.Range(0, 1, "log"), lambda: points.Range(0, 1, "cubic")):
            self.assertRaises(BadInput, bad)
        self.assertRaisesRegex(BadInput, "random and latin", points.grid, {}, {"lr": points.Range(0, 1)})
        self.assertRaisesRegex(BadInput, "whole numbers", points.random, {}, {"v": [1]}, 0)

    def test_points_without_a_seed_get_three(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.py"
            path.write_text('points = [{"a": 1}, {"a": 2, "seed": 7}, {"a": 3, "seed.data": 7}]')
            self.assertEqual([p.get("seed") for p in points.load(path)], [1, 2, 3, 7, None])
            path.write_text('points, seeds = [{"a": 1}], 2')
            self.assertEqual(points.load(path), [{"a": 1, "seed": 1}, {"a": 1, "seed": 2}])
            path.write_text('points, seeds = [{"a": 1}], 0')
            self.assertRaisesRegex(BadInput, "seeds = 0", points.load, path)

    def test_values_travel_as_the_command_line_writes_them(self):
        said = program.arguments({"a": True, "b": 0.001, "c": "zoh", "d": 6})
        self.assertEqual(said, ["--a", "true", "--b", "0.001", "--c", "zoh", "--d", "6"])


class Width(Case):
    def test_widths_of_equal_cost(self):
        base = {"task": "listops", "train.steps": 10}
        like = base | {"variant": "s4d", "model.d_model": 64}
        say = io.StringIO()
        with contextlib.redirect_stderr(say):
            got = width.equal("parameters", points.grid(base, {"variant": ["s4d", "mamba"], "seed": [1, 2]}), like)
        self.assertEqual([p["model.d_model"] for p in got], [64, 64, 48, 48])  # 2 w^2 nearest to 4096, w of 16
        self.assertEqual(say.getvalue().count("\n"), 2)  # seeds are not asked again
        self.assertIn("mamba model.d_model = 48: 4.61 k, +12.5 % of 4.1 k", say.getvalue())
        with contextlib.redirect_stderr(say):
            self.assertEqual(width.equal("state_bytes", [like], 1000)[0]["model.d_model"], 1000)
            self.assertEqual(width.equal("state_bytes", [like], 1003)[0]["model.d_model"], 1000)
            self.assertEqual(width.equal("state_bytes", [like], 1003, step=1)[0]["model.d_model"], 1003)

    def test_what_cannot_be_made_equal_is_named(self):
        like = {"task": "listops", "variant": "s4d", "model.d_model": 64}
        for arguments, said in (
            (("weight", [like], like), "known: parameters, flops, state_bytes"),
            (("state_bytes", [like | {"variant": "brand_new"}], 64), "no carried state"),
            (("parameters", [like], 1e12), "width above"),
            (("parameters", [like], like | {"variant": "mamba", "model.d_model": 24}), "multiple of 16"),
        ):
            self.assertRaisesRegex(BadInput, said, width.equal, *arguments)


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
