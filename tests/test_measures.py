"""What a run says of its state, its energy and the largest batch, from outside: python tests/test_measures.py"""

import json
import unittest

import h5py
import numpy as np
from program import Case, arrays, differing


class State(Case):
    def model(self, **keys) -> dict:
        with h5py.File(self.train(train__steps=1, **keys)) as f:
            return dict(f["model"].attrs)

    def test_state_bytes_and_whether_they_grow(self):
        constant, grows = self.model(variant="mamba"), self.model(variant="attention")
        self.assertEqual(constant["state_growth"], "constant")
        self.assertGreater(constant["state_bytes"], 0)
        self.assertRegex(grows["state_growth"], "grows: of model.l_max = [0-9]+ positions")
        longer = self.model(variant="attention", induction__length=128)
        self.assertAlmostEqual(longer["state_bytes"] / grows["state_bytes"], 2, delta=0.1)
        window = self.model(variant="attention", attention__window=8)
        self.assertEqual(window["state_growth"], "constant")
        none = self.model(variant="s4d", s4d__bidirectional="true")
        self.assertEqual(none["state_bytes"], -1)
        self.assertIn("does not stream: s4d: ", none["state_growth"])
        said = json.loads(self.good("describe", "--json", *self.train_words(variant="mamba")[1:]))
        self.assertEqual(said["state_bytes_per_sequence"], constant["state_bytes"])


class Views(Case):
    def test_recomputed_layers_are_the_same_run_in_less_memory(self):
        keys = {"depth": 4, "model__dropout": 0.1}
        kept = self.train(run__out=self.tmp / "kept", **keys)
        again = self.train(run__out=self.tmp / "again", run__recompute="block", **keys)
        self.assertEqual(kept.name, again.name)
        for table in ("train", "eval"):
            self.assertEqual(differing(arrays(kept, table), arrays(again, table), but=["seconds", "joules"]), [])
        planned = []
        for path in (kept, again):
            with h5py.File(path) as f:
                planned.append(f["model"].attrs["bytes_activations"])
                self.assertLessEqual(f["memory"].attrs["high_water"], f["memory"].attrs["planned"] * 1.02)
        self.assertLess(planned[1], planned[0])


class Energy(Case):
    def test_joules_or_the_reason(self):
        with h5py.File(self.train()) as f:
            said = dict(f["energy"].attrs)
            self.assertEqual("joules" in f["train"], bool(said["source"]))
            self.assertNotEqual(bool(said["source"]), bool(said["reason"]))
            if said["source"]:
                self.assertTrue((np.diff(f["train/joules"][...]) >= 0).all())


class Data(Case):
    """How long a step waited for its batch, and what making batches cost beside the steps. No verdict on the times."""

    def timing(self, task: str, **keys) -> tuple[dict, float]:
        path = self.train(task=task, train__steps=4, **({"induction__length": None} | keys))
        with h5py.File(path) as f:
            return dict(f["timing"].attrs), float(f["train/seconds"][-1])

    def test_batches_of_the_host(self):
        said, seconds = self.timing("strokes", train__batch=2)
        self.assertIn("host: ", said["data_path"])
        self.assertGreater(said["loader_cpu_seconds"], 0)
        self.assertGreater(said["step_cpu_seconds"], 0)
        self.assertAlmostEqual(
            said["loader_cpu_share"], said["loader_cpu_seconds"] / said["step_cpu_seconds"], places=9
        )
        self.assertGreaterEqual(said["loader_wait_share"], 0)
        self.assertLessEqual(said["loader_wait_seconds"], seconds * 1.5 + 0.1)
        self.assertNotIn("data_share", said)

    def test_batches_of_the_device(self):
        said, _ = self.timing("mqar", mqar__length=32, mqar__pairs=4)
        self.assertEqual(said["data_path"], "device")
        self.assertEqual((said["loader_wait_share"], said["loader_cpu_seconds"]), (0, 0))
        self.assertGreater(said["data_batch_seconds"], 0)
        self.assertGreater(said["data_share"], 0)


class LargestBatch(Case):
    def largest(self, *words) -> dict:
        path = self.tmp / "bench.h5"
        self.good("bench", "--variants", "cnn", "--depth", "2", "--largest-batch", "--T", "32", "--D", "8",
                  "--no-check", "--out", path, *words)  # fmt: skip
        with h5py.File(path) as f:
            table = f["largest_batch"]
            return {k: (d.asstr() if h5py.check_string_dtype(d.dtype) else d)[0] for k, d in table.items()}

    def test_a_larger_limit_or_recomputing_gives_a_larger_batch(self):
        small, large = self.largest("--memory-limit", "1M"), self.largest("--memory-limit", "4M")
        self.assertEqual((small["state"], large["state"]), ("ok", "ok"))
        self.assertEqual((small["limit"], small["limit_source"]), (2**20, "--memory-limit"))
        self.assertGreater(large["B"], 3 * small["B"])
        for row in (small, large):
            self.assertEqual(row["planned"], row["high_water"])
            self.assertLessEqual(row["planned"], row["limit"])
        deep = self.largest("--memory-limit", "1M", "--depth", "6")
        again = self.largest("--memory-limit", "1M", "--depth", "6", "--run.recompute", "block")
        self.assertGreater(again["B"], deep["B"])

    def test_what_cannot_run_is_a_row(self):
        row = self.largest("--memory-limit", "1K")
        self.assertEqual((row["state"], row["B"]), ("skipped", 0))
        self.assertIn("one example needs", row["reason"])

    def test_refusals(self):
        self.refused(["bench", "--memory-limit", "1M"], "--largest-batch")
        self.refused(["bench", "--largest-batch", "--memory-limit", "1X"], "1X", "K, M, G or T")
        self.refused(["bench", "--largest-batch", "--B", "4"], "--B")
        self.refused(["bench", "--largest-batch", "--train.batch", "4"], "train.batch 4", "finds B")
        self.refused(["bench", "--B", "2", "--train.batch", "4"], "train.batch 4", "--B")
        self.refused(
            ["describe", "--variant", "mamba", "--mamba.dt_min", "0.5"], "mamba.dt_min = 0.5", "mamba.dt_max = 0.1"
        )


if __name__ == "__main__":
    unittest.main()
