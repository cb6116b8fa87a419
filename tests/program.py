"""Running the built program from outside: what tests/test_program.py, test_resume.py and test_new_variant.py share."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True

from ssmb import venv

venv.require("numpy", "h5py")

import h5py
import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads make two on one busy core a hundred times slower
BINARY = os.environ.get("SSMBENCH", str(ROOT / "build/openmp/ssmbench"))

# A run of a fraction of a second; a test replaces keys, None drops one.
SMALL = {
    "task": "induction", "induction.length": 64, "variant": "s4d", "depth": 2, "model.d_model": 16,
    "train.steps": 12, "train.batch": 4, "train.eval_every": 4, "train.eval_examples": 8, "train.test_examples": 8,
    "run.quiet": "true", "run.threads": 1,
}  # fmt: skip


def words(keys: dict) -> list[str]:
    return [w for key, value in keys.items() if value is not None for w in (f"--{key}", str(value))]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tmp = Path(folder.name)
        self.out = self.tmp / "out"

    def call(self, *arguments, binary=BINARY, before=(), **how) -> subprocess.CompletedProcess:
        command = [*before, str(binary), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=self.tmp, **how)

    def good(self, *arguments, **how) -> str:
        done = self.call(*arguments, **how)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def train_words(self, **keys) -> list[str]:
        return ["train", *words(SMALL | {"run.out": self.out} | {k.replace("__", "."): v for k, v in keys.items()})]

    def train(self, binary=BINARY, **keys) -> Path:
        """The results file of a small run; keys with __ for the dot."""
        arguments = self.train_words(**keys)
        self.good(*arguments, binary=binary)
        return Path(arguments[arguments.index("--run.out") + 1]) / (
            self.good("describe", "--run-id", *arguments[1:], binary=binary).strip() + ".h5"
        )

    def refused(self, arguments, *parts: str, code: int = 2, **how):
        """It ends with `code` and one message that holds every one of `parts`; nothing looks like a result."""
        done = self.call(*arguments, **how)
        with self.subTest(arguments=" ".join(map(str, arguments))):
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(done.stderr.count("ssmbench: "), 1, done.stderr)
            for part in parts:
                self.assertIn(part, done.stderr)
            for sign in ("terminate called", "what():", "HDF5-DIAG", "std::", "basic_string"):
                self.assertNotIn(sign, done.stderr)
            self.assertEqual(self.complete(), [])

    def complete(self) -> list[str]:
        return [
            str(p)
            for p in sorted(self.out.rglob("*.h5"))
            if p.is_file() and not p.name.endswith(".ckpt.h5") and state(p) == "complete"
        ]


def state(results: Path) -> str:
    with h5py.File(results) as f:
        return f["status"].attrs["state"]


def checkpoint(results: Path) -> Path:
    return results.with_suffix(".ckpt.h5")


def arrays(path: Path, under: str) -> dict[str, np.ndarray]:
    """Every array of an HDF5 file under a group, by its path there."""
    out = {}
    with h5py.File(path) as f:
        f[under].visititems(
            lambda name, item: out.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None
        )
    return out


def differing(a: dict, b: dict, but=()) -> list[str]:
    """Names of arrays that are not the same bit for bit."""
    names = sorted((a.keys() | b.keys()) - set(but))
    return [
        n
        for n in names
        if n not in a or n not in b or a[n].shape != b[n].shape or a[n].tolist().__repr__() != b[n].tolist().__repr__()
    ]
