"""scripts/reproduce and its presets: python tests/test_reproduce.py"""

import os
import subprocess
import sys
import unittest

from program import BINARY, ROOT, Case

from ssmb import points, presets, program

READ = ("image", "text", "retrieval", "mnist")  # tasks that need the user's files to be described
TINY = {
    "train.steps": 4, "train.batch": 4, "model.d_model": 16, "train.eval_examples": 8, "train.test_examples": 8,
    "train.lr": 0.001,
}  # fmt: skip


class Reproduce(Case):
    def reproduce(self, *words) -> subprocess.CompletedProcess:
        environment = os.environ | {"SSMBENCH": BINARY, "OMP_NUM_THREADS": "1"}
        return self.call(ROOT / "scripts/reproduce", *words, binary=sys.executable, env=environment)

    def tiny(self, name: str, **more) -> list[str]:
        keys = TINY | {k.replace("__", "."): v for k, v in more.items()}
        said = [w for k, v in keys.items() for w in ("--set", f"{k}={v}")]
        return [name, "--seeds", "1", "--out", str(self.out), *said, "--", "--threads", "1"]

    def test_every_preset_is_whole_and_its_keys_are_accepted(self):
        known = presets.load()
        self.assertGreater(len(known), 100)
        todo = [p.points(1, {})[0] for p in known.values()]
        for p, first in zip(known.values(), todo, strict=True):
            with self.subTest(p.name):
                points.validate(p.points(2, {}), p.name)
                points.validate([{k: first[k] for k in ("task", "variant")} | p.evaluate], p.name)
                self.assertLessEqual(p.tokens, 1e10)
                self.assertTrue(p.cell and p.source and p.margin > 0 and p.expected > 0)
        self.assertEqual(len(program.run_ids(todo, self.tmp / "ids")), len(todo))

    def test_tokens_are_those_of_the_keys(self):
        """One preset of every task and batch: the published count is that of padded positions, up to 15 %."""
        chosen = {}
        for p in presets.load().values():
            if p.keys["task"] not in READ:
                chosen.setdefault((p.keys["task"], p.keys.get("train.batch"), p.keys["train.steps"]), p)
        cheap = {"model.d_model": 16, "variant": "cnn", "depth": 1}
        for p in chosen.values():
            kept = {k: v for k, v in p.keys.items() if k.split(".")[0] in ("task", "train", p.keys["task"])}
            with self.subTest(p.name):
                self.assertAlmostEqual(program.describe(kept | cheap)["tokens"] / p.tokens, 1, delta=0.15)

    def test_says_what_is_ahead_and_runs_nothing_in_a_dry_run(self):
        done = self.reproduce("mamba-mad-recall", "--dry-run", "--out", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        for part in ("18 runs", "330 M tokens each", "0.904", "RWKV-7", "to run, ≥ "):
            self.assertIn(part, done.stdout)
        self.assertEqual(list(self.out.glob("*.h5")), [])
        self.assertIn("mamba-mad-recall", self.reproduce("--list").stdout)

    def test_a_missed_milestone_is_said_aloud(self):
        done = self.reproduce(*self.tiny("mamba-mad-memorisation", train__weight_decay=0))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("MISSED: mamba-mad-memorisation, accuracy 0.", done.stdout)
        self.assertLess(done.stdout.index("tokens each"), done.stdout.index("1 complete"))

    def test_a_score_beyond_the_training_lengths_is_taken_from_the_checkpoint(self):
        done = self.reproduce(*self.tiny("mamba-parity"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("REACHED: mamba-parity, accuracy 0.", done.stdout)
        self.assertEqual(len(list((self.out / "evaluated").glob("*.h5"))), 1)

    def test_bad_input(self):
        for words, said in (
            (["mamba-mad-recal"], "did you mean mamba-mad-recall?"),
            (["mamba-mad-recall", "--seeds", "0"], "--seeds 0"),
            (["mamba-mad-recall", "--set", "mamba.stat=3"], "did you mean mamba.d_state?"),
        ):
            done = self.reproduce(*words)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(said, done.stderr)

    def test_files_that_a_preset_needs_are_asked_for_before_it_runs(self):
        done = self.reproduce("s4-text", "--out", self.out)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("3.3 G tokens each", done.stdout)
        self.assertIn("text.data_dir", done.stderr)
        self.assertEqual(list(self.out.glob("*.h5")), [])

    def test_incomplete_presets_are_refused(self):
        whole = 'cell = "c", expected = 1, tokens = 1, source = "s", mark = "T", margin = 1, keys = { task = "x" }'
        for old, new, said in (
            ('source = "s", ', "", "lacks source"),
            ('mark = "T"', 'mark = "Q"', "the mark 'Q'"),
            ("margin", "margni = 1, margin", "unknown entry margni"),
            ('keys = { task = "x" }', "note = 'n'", "lacks keys"),
        ):
            (self.tmp / "mine.toml").write_text(f"[presets]\nmine = {{ {whole.replace(old, new)} }}\n")
            with self.assertRaises(program.BadInput) as refused:
                presets.load(self.tmp)
            self.assertIn(said, str(refused.exception))


if __name__ == "__main__":
    unittest.main(verbosity=2)
