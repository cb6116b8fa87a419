"""README's walk-through: scripts/new_variant writes one file, a build in a folder of its own finds it, and command
line, tests, bench, sweep and figures know it: python tests/test_new_variant.py"""

import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from program import ROOT, SMALL, Case, arrays, state

NAME = "my_mixer"


class NewVariant(Case):
    def script(self, name: str, *arguments, code: int = 0, **environment) -> str:
        command = [sys.executable, "-B", ROOT / "scripts" / name, *map(str, arguments)]
        env = os.environ | environment
        done = subprocess.run(command, env=env, cwd=self.tmp, capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def build(self) -> Path:
        """All but the new file comes out of the compiler cache: seconds where the program has been built before."""
        if not (shutil.which("ccache") and shutil.which("cmake")):
            self.skipTest("without ccache everything would be compiled again")
        build = ROOT / "build" / f"new_variant-{os.getpid()}"  # the compiler cache goes by relative paths
        self.addCleanup(shutil.rmtree, build, ignore_errors=True)
        for command in (
            ["cmake", "--preset", "openmp", "-B", build, f"-DSSM_VARIANT_DIRS={self.tmp / 'mine'}"],
            ["cmake", "--build", build, "--target", "ssmbench", "test_variants"],
        ):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=800)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        return build

    def variant_tests(self, build: Path, name: str, *more) -> subprocess.CompletedProcess:
        command = [build / "tests/test_variants", f"--gtest_filter={name}.*", *more]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    def test_the_walk_through(self):
        self.script("new_variant", NAME, "--to", self.tmp / "mine")
        self.assertEqual([p.name for p in (self.tmp / "mine").iterdir()], [f"{NAME}.cpp"])
        build = self.build()
        mine = str(build / "ssmbench")

        variants = {v["name"]: v for v in json.loads(self.good("list", "--json", binary=mine))["variants"]}
        self.assertIn("cnn", variants)
        self.assertEqual([k["name"] for k in variants[NAME]["knobs"]], ["width"])
        described = json.loads(self.good("describe", "--json", "--variant", NAME, f"--{NAME}.width", 8, binary=mine))
        self.assertEqual(described["config"][f"{NAME}.width"], "8")
        self.assertIn(f"did you mean '{NAME}'", self.call("describe", "--variant", f"{NAME}r", binary=mine).stderr)
        self.assertIn(f"unknown variant '{NAME}'", self.call("describe", "--variant", NAME).stderr)

        passed = self.variant_tests(build, NAME)  # reference, gradients, streaming, causality, each value of each knob
        self.assertEqual(passed.returncode, 0, passed.stdout[-4000:])
        for test in ("reference", "causal", "knob_width_8"):
            self.assertIn(test, passed.stdout)

        bench = ["bench", "--variants", f"{NAME},cnn", "--B", 2, "--T", "32,64", "--D", 16, "--samples", 2]
        self.good(*bench, "--no-ceilings", "--run.threads", 1, "--out", self.tmp / "bench.h5", binary=mine)
        self.assertEqual(state(self.tmp / "bench.h5"), "complete")
        self.assertEqual(set(arrays(self.tmp / "bench.h5", "bench")["variant"].tolist()), {NAME.encode(), b"cnn"})

        hybrid = self.train(binary=mine, layers=f"{NAME},cnn", variant=None, depth=None)
        self.assertEqual(state(hybrid), "complete")

        self.script("sweep", self.points(), "--threads", 1, "--out", self.tmp / "sweep", SSMBENCH=mine)
        drawn = self.script("plot", "accuracy_tokens", "ablation", "--from", self.tmp / "sweep", "--to", self.tmp / "f")
        self.assertIn("accuracy_tokens.png", drawn)
        self.assertIn(NAME, (self.tmp / "sweep" / "report.html").read_text() if self.report() else "")

    def report(self) -> str:
        return self.script("report", "--from", self.tmp / "sweep")

    def points(self) -> Path:
        file = self.tmp / "points.py"
        base = {k: v for k, v in SMALL.items() if k not in ("variant", "run.threads")}
        axes = {"variant": ["cnn", NAME]}
        file.write_text(f"from ssmb.points import grid\nseeds, points = 2, grid({base}, {axes})\n")
        return file

    def test_names_that_cannot_be_are_refused(self):
        for name, said in (("cnn", "already"), ("My", "no name"), ("a-b", "no name"), ("_x", "no name")):
            self.assertIn(said, self.script("new_variant", name, "--to", self.tmp / "mine", code=2))
        self.assertFalse((self.tmp / "mine").exists())


if __name__ == "__main__":
    unittest.main()
