"""The pages in docs/ are what the program's --help says: python tests/test_docs.py"""

import shutil
import subprocess
import sys
import unittest

from program import ROOT, Case


class Docs(Case):
    def docs(self, *words) -> subprocess.CompletedProcess:
        command = [sys.executable, "-B", str(ROOT / "scripts/docs"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def test_pages_are_current(self):
        done = self.docs("--check")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_page_of_every_command_with_its_options(self):
        self.docs("--to", self.tmp / "docs")
        commands = [line.split()[0] for line in self.good("--help").splitlines() if line.startswith("  ")]
        self.assertIn("bench", commands)
        for name in commands:
            page = (self.tmp / "docs" / f"{name}.md").read_text()
            for line in self.good(name, "--help").splitlines():
                if line.startswith("  --") and " = " not in line:
                    self.assertIn(line.rstrip(), page)
        self.assertIn("--model.d_model = 64", (self.tmp / "docs/keys.md").read_text())

    def test_what_is_not_current_is_named(self):
        folder = shutil.copytree(ROOT / "docs", self.tmp / "docs")
        (folder / "train.md").write_text("old")
        (folder / "gone.md").write_text("a command that is no more")
        (folder / "keys.md").unlink()
        done = self.docs("--check", "--to", folder)
        self.assertEqual(done.returncode, 1)
        for name in ("train.md", "gone.md", "keys.md"):
            self.assertIn(name, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 3, done.stderr)
        self.assertEqual(self.docs("--to", folder).returncode, 0)
        self.assertFalse((folder / "gone.md").exists())
        self.assertEqual(self.docs("--check", "--to", folder).returncode, 0)


if __name__ == "__main__":
    unittest.main()
