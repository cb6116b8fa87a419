"""Results to tables, weights to safetensors and back, following a live run: python tests/test_export.py"""

import csv
import importlib.util
import os
import subprocess
import sys
import unittest
from pathlib import Path

import h5py
import numpy as np
from program import BINARY, ROOT, SMALL, Case, checkpoint, words

from ssmb import export, results, weights
from ssmb.program import BadInput


class Scripts(Case):
    def script(self, name: str, *arguments, code: int = 0) -> str:
        command = [sys.executable, "-B", ROOT / "scripts" / name, *map(str, arguments)]
        env = os.environ | {"SSMBENCH": BINARY}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout + done.stderr


class Tables(Scripts):
    def test_csv_holds_what_the_files_hold(self):
        runs = [self.train(variant=name) for name in ("s4d", "cnn")]
        self.script("export", "--from", self.out, "--to", self.tmp / "tables")
        tables = {p.stem: list(csv.DictReader(p.read_text().splitlines())) for p in self.tmp.glob("tables/*.csv")}
        self.assertEqual(set(tables), {"runs", "train", "eval", "timing", "ablation"})
        with h5py.File(runs[0]) as f:
            loss, score = f["train/loss"][...], float(f["eval/metric"][-1])
        run_id = runs[0].stem
        row = next(r for r in tables["runs"] if r["run_id"] == run_id)
        self.assertEqual((float(row["score"]), row["config.model.variant"], row["state"]), (score, "s4d", "complete"))
        np.testing.assert_array_equal([float(r["loss"]) for r in tables["train"] if r["run_id"] == run_id], loss)
        self.assertEqual({r["config.cnn.kernel"] for r in tables["runs"]}, {"", "3"})
        self.assertEqual(tables["ablation"][0]["doubt"], "one seed")
        self.assertIn("no folder", self.script("export", "--from", self.tmp / "none", "--to", self.tmp, code=2))

    def test_tables_need_no_matplotlib(self):
        code = "import sys; sys.modules['matplotlib'] = None; from ssmb import export, jobs, width"
        subprocess.run([sys.executable, "-B", "-c", code], check=True, cwd=ROOT / "scripts")

    def test_parquet_or_the_reason(self):
        rows = [{"a": 1, "b": "x", "c": True}, {"a": 2.5, "b": 7}]
        if importlib.util.find_spec("pyarrow") is None:
            self.assertRaisesRegex(BadInput, "pip install pyarrow", export.write_parquet, self.tmp / "t.parquet", rows)
            return
        import pyarrow.parquet

        export.write_parquet(self.tmp / "t.parquet", rows)
        got = pyarrow.parquet.read_table(self.tmp / "t.parquet").to_pydict()
        self.assertEqual(got, {"a": [1.0, 2.5], "b": ["x", "7"], "c": [True, None]})


class Weights(Scripts):
    def evaluate(self, file: Path) -> str:
        return self.good("eval", file, "--run.threads", 1, "--train.eval_batch", 4, "--examples", 64)

    def test_there_and_back(self):
        file, out = checkpoint(self.train()), self.tmp / "w.safetensors"
        self.assertIn("tensors", self.script("weights", "out", file, out))
        mine = weights.read(out)
        with h5py.File(file) as f:
            self.assertEqual(set(mine), set(f["arrays/param"]))
            for name, value in mine.items():
                np.testing.assert_array_equal(value, f["arrays/param"][name])
        back = self.tmp / "back.ckpt.h5"
        self.script("weights", "in", out, "--like", file, back)
        self.assertEqual(self.evaluate(back), self.evaluate(file))  # every checksum holds
        changed = {name: value + 1 for name, value in mine.items()}
        weights.into_checkpoint(changed, file, back)
        self.assertNotEqual(self.evaluate(back), self.evaluate(file))
        with h5py.File(file) as f, h5py.File(back) as g:
            self.assertNotEqual(f.attrs["fnv1a"], g.attrs["fnv1a"])

    def test_wrong_weights_are_named(self):
        file = checkpoint(self.train())
        tensors, _ = weights.from_checkpoint(file)
        bad = self.tmp / "bad.safetensors"
        for change, said in (
            ({"head.bias": np.zeros(3, np.float32)}, r"head.bias: has shape \(3,\)"),
            ({"tail": np.zeros(3, np.float32)}, "tail: .* no such parameter"),
        ):
            weights.write(bad, tensors | change, {})
            self.assertRegex(self.script("weights", "in", bad, "--like", file, self.tmp / "x", code=2), said)
        bad.write_bytes(b"nothing of the kind")
        self.assertIn("not a safetensors file", self.script("weights", "in", bad, "--like", file, "x", code=2))
        self.assertIn("no best weights", self.script("weights", "out", file, bad, "--weights", "best", code=2))
        self.assertFalse((self.tmp / "x").exists())

    @unittest.skipIf(importlib.util.find_spec("safetensors") is None, "safetensors missing in .venv")
    def test_the_format_is_safetensors(self):
        from safetensors import numpy, safe_open

        draw = np.random.default_rng(1)
        tensors = {"a": draw.normal(size=(3, 5)).astype(np.float32), "b.c": draw.normal(size=(2,)), "s": np.float32(7)}
        tensors["i"] = np.arange(6, dtype=np.int64).reshape(1, 2, 3)
        ours, theirs = self.tmp / "ours", self.tmp / "theirs"
        weights.write(ours, {k: np.asarray(v) for k, v in tensors.items()}, {"lr": "0.1"})
        numpy.save_file({k: np.asarray(v) for k, v in tensors.items()}, theirs)
        with safe_open(ours, "np") as f:
            self.assertEqual(f.metadata(), {"lr": "0.1"})
        for got in (numpy.load_file(ours), weights.read(ours), weights.read(theirs)):
            self.assertEqual(set(got), set(tensors))
            for name, value in tensors.items():
                np.testing.assert_array_equal(got[name], value)
                self.assertEqual(got[name].dtype, np.asarray(value).dtype)


class Watch(Scripts):
    def test_a_live_run_is_followed_to_its_end(self):
        keys = SMALL | {"run.out": self.out, "train.steps": 400, "train.eval_every": 100, "run.report_every": 50}
        run = subprocess.Popen([BINARY, "train", *words(keys)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(run.kill)
        run_id = self.good("describe", "--run-id", *words(keys)).strip()
        path = self.out / f"{run_id}.h5"
        while not path.exists() and run.poll() is None:
            pass
        said = self.script("watch", path, "--every", "0.05", "--most", "1000")
        self.assertEqual(run.wait(), 0)
        for step in range(50, 401, 50):
            self.assertEqual(said.count(f"step {step} of 400 "), 1, said)
        for word in (f"{run_id}  s4d on induction", "test       step 400", "\ncomplete"):
            self.assertIn(word, said)
        self.assertEqual(len(results.read(path).train["step"]), said.count(" tokens/s  "))
        self.assertIn("complete", self.script("watch", self.out, "--once"))
        self.assertIn("no file", self.script("watch", self.tmp / "none.h5", code=2))

    def test_an_interrupted_run_is_given_up(self):
        path = self.train()
        with h5py.File(path, "a") as f:
            f["status"].attrs["state"] = "running"
        self.assertIn("interrupted?", self.script("watch", path, "--patience", "0.1", code=1))


if __name__ == "__main__":
    unittest.main()
