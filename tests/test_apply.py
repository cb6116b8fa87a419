"""ssmbench apply: what it computes against NumPy and by differences, and what it refuses: python tests/test_apply.py"""

import importlib
import os
import subprocess
import sys
import unittest

import h5py
import numpy as np
from program import BINARY, ROOT, Case

sys.path.insert(0, str(ROOT / "scripts" / "reference"))
from shared import Call

B, T, D = 2, 7, 4
SHAPES = {
    "weight_ih_l0": (4 * D, D), "weight_hh_l0": (4 * D, D), "bias_ih_l0": (4 * D,), "bias_hh_l0": (4 * D,),
}  # fmt: skip


class Apply(Case):
    def write(self, name="in.h5", attributes=None, drop=(), **arrays):
        """A good question to an LSTM; `attributes` and arrays (__ for /) replace or add, None and `drop` remove."""
        rng = np.random.default_rng(0)
        content = {f"p/{n}": 0.5 * rng.standard_normal(s) for n, s in SHAPES.items()} | {
            "in/x": rng.standard_normal((B, T, D))
        }
        content |= {key.replace("__", "/"): value for key, value in arrays.items()}
        with h5py.File(self.tmp / name, "w") as f:
            for key, value in ({"variant": "lstm"} | (attributes or {})).items():
                if value is not None:
                    f.attrs[key] = value
            for key, value in content.items():
                if key not in drop:
                    f[key] = value
        return content

    def answer(self, name="out.h5"):
        out = {}
        with h5py.File(self.tmp / name) as f:
            f.visititems(lambda path, item: out.update({path: item[...]}) if isinstance(item, h5py.Dataset) else None)
            self.attributes = dict(f.attrs)
        return out

    def apply(self, **how):
        content = self.write(**how)
        self.good("apply", "in.h5", "out.h5")
        return content, self.answer()

    def tolerance(self, got):
        return 1e-10 if got.dtype == np.float64 else 1e-5

    def test_output_state_and_gradients(self):
        dy = np.random.default_rng(1).standard_normal((B, T, D))
        content, got = self.apply(dy=dy)
        p = {key[2:]: value for key, value in content.items() if key.startswith("p/")}
        knobs = {"hidden": 0, "layers": 1, "learn_start": False, "layer_norm": False}
        forward = importlib.import_module("lstm").forward

        def loss(p, x):
            return float((forward(Call(p, x, knobs, np.full(B, T), T)) * dy).sum())

        x = content["in/x"]
        y = forward(Call(p, x, knobs, np.full(B, T), T))
        self.assertLess(np.abs(got["y"] - y).max() / np.abs(y).max(), self.tolerance(got["y"]))
        self.assertEqual(set(got), {"y", "state", "g/in/x"} | {f"g/{n}" for n in SHAPES})
        self.assertEqual({k: got[f"g/{k}"].shape for k in SHAPES}, SHAPES)
        loose = 1e-8 if got["y"].dtype == np.float64 else 1e-4
        v = np.random.default_rng(2).standard_normal(x.shape)
        slope = (loss(p, x + 1e-5 * v) - loss(p, x - 1e-5 * v)) / 2e-5
        self.assertAlmostEqual(float((got["g/in/x"] * v).sum()) / slope, 1, delta=loose)
        for name, shape in SHAPES.items():
            v = np.random.default_rng(3).standard_normal(shape)
            slope = (loss(p | {name: p[name] + 1e-5 * v}, x) - loss(p | {name: p[name] - 1e-5 * v}, x)) / 2e-5
            self.assertAlmostEqual(float((got[f"g/{name}"] * v).sum()) / slope, 1, delta=loose, msg=name)
        self.assertEqual(self.attributes["variant"], "lstm")
        self.assertEqual(self.attributes["hidden"], "0")

    def test_a_sequence_in_two_pieces(self):
        content, whole = self.apply()
        self.apply(in__x=content["in/x"][:, :3], attributes={"l_max": T})
        state = self.answer()["state"]
        _, late = self.apply(in__x=content["in/x"][:, 3:], in__state=state, attributes={"l_max": T})
        self.assertLess(np.abs(late["y"] - whole["y"][:, 3:]).max(), 10 * self.tolerance(whole["y"]))
        np.testing.assert_allclose(late["state"], whole["state"], rtol=0, atol=10 * self.tolerance(whole["y"]))
        _, fresh = self.apply(in__x=content["in/x"][:, 3:])
        self.assertGreater(np.abs(fresh["y"] - whole["y"][:, 3:]).max(), 1e-2)  # the state is what makes them equal

    def test_attributes_of_every_kind_and_number_types(self):
        start = {"p/h0_l0": np.full(D, 0.5, np.float32), "p/c0_l0": np.arange(D)}
        knobs = {"hidden": 0, "layers": 1, "learn_start": True, "layer_norm": False}
        for yes in (True, np.bool_(True), "true"):
            content, got = self.apply(attributes={"learn_start": yes, "forget_bias": 1.0, "layers": 1}, **start)
            p = {key[2:]: value for key, value in content.items() if key.startswith("p/")}
            y = importlib.import_module("lstm").forward(Call(p, content["in/x"], knobs, np.full(B, T), T))
            self.assertLess(np.abs(got["y"] - y).max() / np.abs(y).max(), self.tolerance(got["y"]))
        self.assertEqual(self.attributes["learn_start"], "true")

    def test_lengths_hide_padding(self):
        rng = np.random.default_rng(5)
        mixer = {"p/in_proj.weight": rng.standard_normal((3 * D, D)), "p/out_proj.weight": rng.standard_normal((D, D))}
        how = {"attributes": {"variant": "attention", "causal": False}, "drop": [f"p/{n}" for n in SHAPES]} | mixer
        x = rng.standard_normal((B, T, D))
        _, short = self.apply(in__x=x[:, :4], **how)
        _, masked = self.apply(in__x=x, in__lengths=[4, 4], **how)
        self.assertLess(np.abs(masked["y"][:, :4] - short["y"]).max(), 10 * self.tolerance(short["y"]))
        self.assertNotIn("state", masked)

    def test_refusals(self):
        def bad(*parts, **how):
            self.write(**how)
            self.refused(["apply", "in.h5", "out.h5"], "in.h5", *parts)
            self.assertFalse((self.tmp / "out.h5").exists())

        def bad_knob(*parts, **attributes):
            self.write(attributes=attributes)
            self.refused(["apply", "in.h5", "out.h5"], *parts)

        bad_knob("unknown variant 'lstn'", "did you mean 'lstm'", variant="lstn")
        bad_knob("'lstm.hiden'", "did you mean 'lstm.hidden'", hiden=3)
        bad_knob("lstm.hidden = '-1'", "[0, 65536]", hidden=-1)
        bad_knob("lstm.learn_start = 'yes'", "true or false", learn_start="yes")
        bad("no root attribute 'variant'", "lstm", attributes={"variant": None})
        bad("'l_max' = 3", "7 positions", attributes={"l_max": 3})
        bad("'l_max' = 0", "[1, 1073741824]", attributes={"l_max": 0})
        bad("'layer' = x", "[0, ", attributes={"layer": "x"})
        bad("'weight_hh_l0' (16, 4) is missing", "bias_hh_l0", drop=["p/weight_hh_l0"])
        bad("'weight_hh_l1'", "did you mean 'weight_hh_l0'", p__weight_hh_l1=np.zeros((16, 4)))
        bad("'/p/bias_ih_l0'", "(4,", "expected (16)", p__bias_ih_l0=np.zeros((4, 4)))
        bad("'/p/weight_ih_l0'", "(4, 16), expected (16, 4)", p__weight_ih_l0=np.zeros((4, 16)))
        bad("'/p/bias_ih_l0' holds strings", p__bias_ih_l0=["x"] * 16)
        bad("no array '/in/x'", drop=["in/x"])
        bad("'/in/x' has shape (7, 4)", "(B, T, D)", in__x=np.zeros((7, 4)))
        bad("'/in/x' has shape (2, 0, 4)", "1 or more", in__x=np.zeros((2, 0, 4)))
        bad("'/dy' has shape (2, 4, 7), expected (2, 7, 4)", dy=np.zeros((2, 4, 7)))
        bad("'/in/lengths' holds 8", "[1, 7]", in__lengths=[7, 8])
        bad("'/in/lengths' has shape (1), expected (2)", in__lengths=[7])
        bad("'/in/dt'", "time step per position", in__dt=np.ones((B, T)))
        bad("'/in/u'", "/in/x", in__u=np.ones((B, T)))
        bad("'/in/state'", "expected (", in__state=np.ones(3))
        bad("'/in/state' with '/dy'", in__state=np.ones(3), dy=np.ones((B, T, D)))
        attention = {"variant": "attention", "causal": False}
        bad("'/in/state'", "carries no state", attributes=attention, in__state=np.ones(3))

    def test_files(self):
        self.write()
        self.refused(["apply", "in.h5"], "two files")
        self.refused(["apply", "in.h5", "in.h5"], "replace the input")
        self.refused(["apply", "absent.h5", "out.h5"], "absent.h5", "No such file")
        (self.tmp / "text.h5").write_text("hello\n" * 1000)
        self.refused(["apply", "text.h5", "out.h5"], "text.h5", "not an HDF5 file")
        self.refused(["apply", "in.h5", "absent/out.h5"], "absent/out.h5", "No such file", code=1)
        trained = self.train(train__steps=2)
        for foreign in (trained, trained.with_suffix(".ckpt.h5")):
            done = self.call("apply", foreign, "out.h5")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("no root attribute 'variant'", done.stderr)
        before = sorted(p.name for p in self.tmp.iterdir())
        self.good("apply", "in.h5", "out.h5")
        self.assertEqual(sorted(p.name for p in self.tmp.iterdir()), sorted([*before, "out.h5"]))


class Reference(unittest.TestCase):
    """scripts/reference/compare, with the double build where there is one."""

    def compare(self, binary, *arguments):
        script = [sys.executable, str(ROOT / "scripts" / "reference" / "compare"), *arguments]
        environment = os.environ | {"SSMBENCH": str(binary)}
        return subprocess.run(script, capture_output=True, text=True, check=False, timeout=300, env=environment)

    def test_agrees_in_double_and_refuses_float(self):
        double = ROOT / "build" / "double" / "ssmbench"
        for binary in {BINARY, str(double)} if double.exists() else {BINARY}:
            done = self.compare(binary, "--defaults", "lstm", "mamba")
            if done.returncode == 0:
                lines = [line.split() for line in done.stdout.splitlines()]
                self.assertEqual([words[0] for words in lines], ["lstm", "mamba"])
                self.assertTrue(all(0 <= float(words[1]) < 1e-9 for words in lines), done.stdout)
            else:
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("computes in float32; the comparison needs the double build", done.stderr)

    def test_unknown_variant(self):
        done = self.compare(BINARY, "lstn")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("unknown variant lstn", done.stderr)


if __name__ == "__main__":
    unittest.main()
