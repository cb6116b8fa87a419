"""A variant is one file: a copy of variants/cnn.cpp under another name, with another output, in a folder of its own,
is known everywhere: python tests/test_new_variant.py"""

import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

from program import ROOT, Case, arrays, state

CHANGES = [
    ("namespace ssm::cnn", "namespace ssm::twice"),
    ('SSM_VARIANT(Cnn, "cnn")', 'SSM_VARIANT(Cnn, "twice")'),
    ('activation(n, add(n, h, x), "relu") : h;', "add(n, h, x) : h;"),
    ("std::max(c.x[i] + h[i], 0.0) : h[i];", "c.x[i] + h[i] : h[i];"),
]


class NewVariant(Case):
    def copy(self) -> None:
        text = (ROOT / "variants/cnn.cpp").read_text()
        for old, new in CHANGES:
            self.assertIn(old, text, "variants/cnn.cpp has changed: change this test with it")
            text = text.replace(old, new)
        folder = self.tmp / "mine"
        folder.mkdir()
        (folder / "twice.cpp").write_text(text)

    def build(self) -> str:
        """All but the new file comes out of the compiler cache: seconds where the program has been built before."""
        if not (shutil.which("ccache") and shutil.which("cmake")):
            self.skipTest("without ccache everything would be compiled again")
        build = self.tmp / "build"
        for command in (
            ["cmake", "--preset", "openmp", "-B", build, f"-DSSM_VARIANT_DIRS={self.tmp / 'mine'}"],
            ["cmake", "--build", build, "--target", "ssmbench", "test_variants"],
        ):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=800)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        return str(build / "ssmbench")

    def test_it_is_known_everywhere(self):
        self.copy()
        mine = self.build()
        registry = json.loads(self.good("list", "--json", binary=mine))
        by_name = {v["name"]: v for v in registry["variants"]}
        self.assertIn("cnn", by_name)
        self.assertEqual(by_name["twice"]["knobs"], by_name["cnn"]["knobs"])
        self.assertIn("twice.kernel", [k["name"] for k in registry["keys"]])

        tests = subprocess.run(
            [Path(mine).parent / "tests/test_variants", "--gtest_list_tests"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.assertGreater(tests.count("twice"), 0)
        self.assertEqual(tests.count("twice"), tests.count("cnn"))

        described = json.loads(self.good("describe", "--json", "--variant", "twice", "--twice.kernel", 5, binary=mine))
        self.assertEqual(described["config"]["twice.kernel"], "5")
        self.assertIn("did you mean 'twice'", self.call("describe", "--variant", "twicee", binary=mine).stderr)

        # Same parameters, same batches: what differs is the output, which the run holds to its own reference first.
        runs = {name: self.train(binary=mine, variant=name) for name in ("cnn", "twice")}
        losses = {name: arrays(run, "train")["loss"] for name, run in runs.items()}
        self.assertEqual([state(r) for r in runs.values()], ["complete", "complete"])
        self.assertFalse((losses["cnn"] == losses["twice"]).any(), losses)
        hybrid = self.train(binary=mine, layers="twice,cnn")
        self.assertEqual(state(hybrid), "complete")
        self.assertIn("unknown variant 'twice'", self.call("describe", "--variant", "twice").stderr)

        path = os.environ | {"SSMBENCH": mine}
        sweep = [ROOT / "scripts/sweep", self.points(), "--dry-run", "--out", self.tmp / "sweep"]
        done = subprocess.run(sweep, env=path, cwd=self.tmp, capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("twice", done.stdout + done.stderr)

    def points(self):
        file = self.tmp / "points.py"
        axes = "{'variant': ['cnn', 'twice']}"
        base = "{'task': 'induction', 'train.steps': 2}"
        file.write_text(f"from ssmb.points import grid\nbase = {base}\npoints = grid(base, {axes})\n")
        return file


if __name__ == "__main__":
    unittest.main()
