"""The same bits with any number of threads and after any interruption; a checkpoint at other lengths:
python tests/test_resume.py"""

import json
import os
import signal
import subprocess
import time
import unittest

from program import BINARY, Case, arrays, checkpoint, differing, state

LISTOPS = {
    "task": "listops",
    "induction.length": None,
    "listops.depth": 4,
    "listops.min_length": 20,
    "listops.max_length": 60,
}


class Bits(Case):
    def same(self, a, b):
        """Two runs that may differ in nothing but their times."""
        for path in (a, b):
            self.assertEqual(state(path), "complete")
        self.assertEqual(differing(arrays(a, "train"), arrays(b, "train"), but=["seconds", "joules"]), [])
        self.assertEqual(differing(arrays(a, "eval"), arrays(b, "eval"), but=["seconds"]), [])
        one, two = arrays(checkpoint(a), "arrays"), arrays(checkpoint(b), "arrays")
        self.assertIn("param/embed.weight", one)
        times = [n for n in one | two if n == "step_seconds" or n.endswith(("/seconds", "/joules"))]
        self.assertEqual(differing(one, two, but=times), [])

    def test_threads(self):
        if (os.cpu_count() or 1) < 2:
            self.skipTest("one core")
        for variant in json.loads(self.good("list", "--json"))["variants"]:
            with self.subTest(variant=variant["name"]):
                runs = [
                    self.train(variant=variant["name"], run__threads=n, run__out=self.tmp / f"{n}", model__dropout=0.1)
                    for n in (1, 2)
                ]
                self.same(*runs)
                self.assertEqual(len(arrays(runs[0], "train")["loss"]), 12)

    def test_seeds_differ(self):
        first = arrays(self.train(), "train")["loss"]
        for seed in ("seed__init", "seed__data"):
            self.assertFalse((arrays(self.train(**{seed: 2}), "train")["loss"] == first).all(), seed)
        dropout = [arrays(self.train(model__dropout=0.1, seed__dropout=n), "train")["loss"] for n in (1, 2)]
        self.assertFalse((dropout[0] == dropout[1]).all())


class Resume(Case):
    def killed(self, at_step: int, **keys) -> int:
        """Kills a run when a checkpoint of at least `at_step` is there; the step of the checkpoint that is left."""
        path = checkpoint(self.results(**keys))
        process = subprocess.Popen([BINARY, *self.train_words(**keys)], cwd=self.tmp, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end and self.step(path) < at_step:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL, "the run ended before it could be killed")
        return self.step(path)

    def results(self, **keys):
        words = self.train_words(**keys)
        return self.out / (self.good("describe", "--run-id", *words[1:]).strip() + ".h5")

    def step(self, path) -> int:
        if not path.exists():
            return 0
        return len(arrays(path, "arrays/history/train")["step"])

    same = Bits.same

    def interrupted(self, steps: int, **keys):
        keys = {"train.steps": steps, "run.checkpoint_every": 5, "train.eval_every": 10} | keys
        keys = {k.replace(".", "__"): v for k, v in keys.items()}
        undisturbed = self.train(**keys | {"run__out": self.tmp / "undisturbed"})
        results = self.results(**keys)
        for at_step in (5, steps // 2):
            left = self.killed(at_step, **keys)
            self.assertTrue(0 < left < steps, left)
            self.assertEqual(left % 5, 0)
            self.assertEqual(state(results), "running")
        shown = self.call(*self.train_words(**keys | {"run__quiet": "false"}))
        self.assertIn("resumed at step", shown.stderr)
        self.same(undisturbed, results)

    def test_dropout_and_accumulation(self):
        self.interrupted(300, **{"model.dropout": 0.2, "train.accumulate": 2, "model.d_model": 32})

    def test_buffers_best_plateau_and_a_finite_training_set(self):
        self.interrupted(
            300, **{"model.norm": "batch", "train.select": "best", "train.schedule": "plateau",
                    "train.plateau_patience": 1, "induction.train_size": 50, "model.d_model": 32, "run.report_every": 7}
        )  # fmt: skip

    def test_curriculum(self):
        for seed, made in enumerate(("host", "device")):
            with self.subTest(made=made):
                self.interrupted(
                    160, **{"task": "parity", "induction.length": None, "train.curriculum": 0.8, "run.data": made,
                            "train.accumulate": 2, "seed": seed}
                )  # fmt: skip

    def test_hybrid_on_listops(self):
        self.interrupted(200, **LISTOPS, **{"layers": "mamba,s4,attention,cnn"})

    def test_a_finished_run_is_only_tested_again(self):
        first = self.train()
        before = arrays(first, "eval"), arrays(first, "train")
        again = self.train()
        self.assertEqual(first, again)
        self.assertEqual(differing(arrays(again, "train"), before[1]), [])
        self.assertEqual(differing(arrays(again, "eval"), before[0]), [])

    def test_without_resume_it_starts_over(self):
        first = self.train()
        shown = self.call(*self.train_words(run__quiet="false", run__resume="false"))
        self.assertNotIn("resumed", shown.stderr)
        self.assertEqual(state(first), "complete")


class OtherLengths(Case):
    def test_eval_at_longer_lengths(self):
        for variant in json.loads(self.good("list", "--json"))["variants"]:
            path = checkpoint(self.train(variant=variant["name"]))
            trained = None
            for length in (64, 256, 1024):
                with self.subTest(variant=variant["name"], length=length):
                    more = [] if length == 64 else ["--induction.length", length]
                    told = json.loads(
                        self.good("eval", path, "--json", "--examples", 8, "--out", self.tmp / "there.h5", *more)
                    )
                    self.assertEqual((told["length"], told["examples"]), (length, 8))
                    self.assertTrue(0 < told["loss"] < 20, told)
                    self.assertEqual(state(self.tmp / "there.h5"), "complete")
                    self.assertEqual(arrays(self.tmp / "there.h5", "eval")["loss"].tolist(), [told["loss"]])
                    trained = trained or told["loss"]
            row = arrays(path.with_name(path.name.replace(".ckpt", "")), "eval")
            self.assertEqual(
                row["loss"][row["split"] == b"test"].tolist(), [trained], "eval repeats the test of the run"
            )


if __name__ == "__main__":
    unittest.main()
