"""Running the scripts against a stand-in for the binary (tests/stub_program.py): what the tests of scripts/ share."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))
sys.dont_write_bytecode = True

from ssmb import venv

venv.require("numpy", "h5py", "matplotlib", "rich")

from ssmb import program, results

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

    @staticmethod
    def command(name: str, *words) -> list[str]:
        return [sys.executable, "-B", str(SCRIPTS / name), *map(str, words)]

    def script(self, name: str, *words) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(name, *words), capture_output=True, text=True, check=False, timeout=120)

    def write(self, expression: str, base: str = BASE) -> Path:
        path = self.tmp / "mine.py"
        path.write_text(
            f"from ssmb.points import grid, one_off, zip_\nbase = {base}\nseeds = 1\npoints = {expression}\n"
        )
        return path

    def sweep(self, expression: str, *words, base: str = BASE) -> subprocess.CompletedProcess:
        return self.script("sweep", self.write(expression, base), "--out", self.tmp / "out", *words)

    def runs(self) -> list[results.Run]:
        return results.load(self.tmp / "out")
