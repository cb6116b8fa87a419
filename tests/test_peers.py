"""scripts/peers/ and scripts/lengths, the binary and PyTorch made up: python tests/test_peers.py"""

import signal
import subprocess
import sys
import unittest

import h5py
import numpy as np
from stubbed import Case

from ssmb import results

# Says what torch_step.py would say. compile fails, compile_graph must not be started then, graph is the fastest.
TORCH = """
import json, sys
mode, variant = sys.argv[sys.argv.index("--mode") + 1], sys.argv[2]
say = lambda **facts: print(json.dumps(facts), flush=True)
if mode == "compile_graph":
    print("started all the same", file=sys.stderr)
    sys.exit(3)
if mode == "compile":
    say(failed="RuntimeError: no compiler")
    sys.exit(1)
if variant == "mamba":
    print("Traceback\\nout of luck", file=sys.stderr)
    sys.exit(3)
say(parameters=1000, start_rss=1, version="PyTorch 9.9", scan="", every=1, setup=0.5)
for line in sys.stdin:
    seconds = [0.5 if mode == "graph" else 2.0] * int(line)
    say(seconds={"train_step": seconds}, peak_rss=10**8, allocated=2 * 10**6, reserved=3 * 10**6)
"""


class Compare(Case):
    def setUp(self):
        super().setUp()
        (self.tmp / "torch.py").write_text(TORCH)
        self.python = self.tmp / "python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self.tmp}/torch.py" "$@"\n')
        self.python.chmod(0o755)

    def compare(self, *words):
        out = self.tmp / "peers"
        return self.script("peers/compare", "--peer-python", self.python, "--out", out, "--rounds", 2, *words)

    def test_best_mode_counts_and_failures_keep_their_reason(self):
        modes = ("eager", "compile", "graph", "compile_graph")
        done = self.compare("--variants", "s4d", "--device", "cuda", "--precision", "fp32", "tf32", "--steps", 2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ours was not replayed: eager: no graphs on this backend", done.stdout)
        fp32, tf32 = sorted(results.load(self.tmp / "peers"), key=lambda r: str(r.config["run.gemm"]))
        self.assertEqual([r.config["run.gemm"] for r in (fp32, tf32)], ["fp32", "tf32"])
        self.assertEqual([r.meta["peer_gemm"] for r in (fp32, tf32)], ["fp32", "tf32"])
        self.assertEqual(list(fp32.timing["train_step"]["seconds"]), [0.25] * 4)  # without the first of a process
        self.assertEqual(list(fp32.timing["peer_train_step"]["seconds"]), [0.5] * 4)
        self.assertEqual(fp32.timing["peer_train_step"]["mode"], "graph")
        self.assertEqual(list(fp32.timing["peer_eager"]["seconds"]), [2.0] * 4)
        self.assertNotIn("peer_compile", fp32.timing)
        self.assertEqual(tuple(fp32.peer["mode"]), modes)
        self.assertEqual(list(fp32.peer["state"]), ["ok", "failed", "ok", "failed"])
        self.assertEqual(fp32.peer["reason"][1], "RuntimeError: no compiler")
        self.assertEqual(fp32.peer["reason"][3], "as compile: RuntimeError: no compiler")
        self.assertEqual((fp32.memory["high_water"], fp32.memory["peer_high_water"]), (1004000, 2 * 10**6))
        self.assertEqual(fp32.how["step_path"], "eager: no graphs on this backend")

    def test_without_peer_and_without_program(self):
        done = self.compare("--variants", "mamba")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("eager: ended with code 3 out of luck", done.stdout)
        (run,) = results.load(self.tmp / "peers")
        self.assertNotIn("peer_train_step", run.timing)
        self.assertEqual(self.compare("--precision", "tf32").returncode, 2)
        (self.tmp / "ssmbench").write_text("#!/bin/sh\necho disk is full >&2; exit 1\n")
        done = self.compare("--variants", "s4d")
        self.assertEqual(done.returncode, 1)
        self.assertIn("disk is full", done.stdout)


# Says what torch_ops.py, jax_ops.py and torch_decode.py would say. The graph is faster; JAX is not there.
PARTS = """
import json, os, sys
script, mode = os.path.basename(sys.argv[1]), sys.argv[sys.argv.index("--mode") + 1]
say = lambda **facts: print(json.dumps(facts), flush=True)
if script == "jax_ops.py":
    say(failed="ModuleNotFoundError: No module named 'jax'")
    sys.exit(1)
phases = {"torch_decode.py": ("decode",)}.get(script, ("forward", "forward_backward"))
say(start_rss=1, version="PyTorch 9.9", scan="another's kernel", every=1, setup=0.5)
for line in sys.stdin:
    say(seconds={p: [0.5 if "graph" in mode else 2.0] * int(line) for p in phases}, peak_rss=10**8)
"""

# Says what `ssmbench bench` would say, of mixers whose ops are one each; s5 is too large.
BENCH = """
import sys, h5py
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
variant, level, mode = words["--variants"], words["--level"], words.get("--mode", "forward_backward")
case = f"{level}.{variant}.{mode}.B{words['--B']}.T{words['--T']}.D{words['--D']}"
op = {"longconv": "fft_conv", "s5": "mimo_scan"}.get(variant, variant)
names = [case] if level == "mixer" else [f"{case}.02.{op}.{p}" for p in ("forward", "backward")]
with h5py.File(words["--out"], "w") as f:
    f.attrs["schema"], f.attrs["run_id"] = "ssmbench/1", "bench"
    f.create_group("meta").attrs["device"] = "a GPU"
    f["bench/state"], f["bench/reason"] = ["skipped" if variant == "s5" else "ok"], ["needs 9 MiB"]
    for i, name in enumerate(names):
        f[f"timing/{name}"] = [0.25 * (i + 1)] * 3
        f[f"timing/{name}"].attrs["method"] = "events"
    f.create_group("status").attrs["state"] = "complete"
"""


class Parts(Case):
    def setUp(self):
        super().setUp()
        (self.tmp / "parts.py").write_text(PARTS)
        (self.tmp / "bench.py").write_text(BENCH)
        self.python = self.tmp / "python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self.tmp}/parts.py" "$@"\n')
        (self.tmp / "ssmbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self.tmp}/bench.py" "$@"\n')
        self.python.chmod(0o755)

    def run_parts(self, name, *words):
        out = self.tmp / "out"
        return self.script(f"peers/{name}", *words, "--peer-python", self.python, "--out", out, "--rounds", 2)

    def test_ops_take_the_fastest_mode_and_add_passes(self):
        done = self.run_parts(
            "ops", "fft_conv", "--shape", 2, 8, 4, 1, "--device", "cuda", "--precision", "fp32", "tf32"
        )
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        (run,) = results.load(self.tmp / "out")
        self.assertEqual((run.kind, run.device), ("versus", "a GPU"))
        self.assertEqual(list(run.versus["phase"]), ["forward", "forward_backward"])  # no products: one precision
        self.assertEqual(list(run.versus["mode"]), ["graph", "graph"])
        self.assertEqual(list(run.versus["N"]), [-1, -1])
        name = "fft_conv.forward_backward.fp32.B2.T8.D4"
        self.assertEqual(list(run.timing[name]["seconds"]), [0.75] * 6)  # two rounds of three, forward and backward
        self.assertEqual(set(run.timing[f"peer_{name}"]["seconds"]), {0.5})
        self.assertEqual(set(run.timing[f"peer_eager_{name}"]["seconds"]), {2.0})
        self.assertEqual(run.timing[name]["method"], "events")

    def test_each_side_may_be_missing_and_says_why(self):
        done = self.run_parts("ops", "s5_layer", "--device", "cuda", "--shape", 2, 8, 4, 4)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("ours: skipped: needs 9 MiB", done.stdout)
        self.assertIn("jit: ModuleNotFoundError", done.stdout)
        (run,) = results.load(self.tmp / "out")
        self.assertEqual(list(run.versus["state"]), ["failed"] * 2)
        for words in (("--shape", 1, 8, 100, 1), ("attentoin",), ("--precision", "tf32")):
            self.assertEqual(self.run_parts("ops", *words).returncode, 2)

    def test_decode(self):
        done = self.run_parts("decode", "mamba", "--batch", 1, 64, "--device", "cuda", "--length", 8, "--d-model", 4)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        (run,) = results.load(self.tmp / "out")
        self.assertEqual([(b, m) for b, m in zip(run.versus["B"], run.versus["mode"], strict=True)],
                         [(1, "graph"), (64, "graph")])  # fmt: skip
        self.assertEqual(list(run.timing["mamba.decode.fp32.B64.T8.D4"]["seconds"]), [0.25] * 6)
        self.assertEqual(self.run_parts("decode", "attention", "--length", 8192).returncode, 2)


class Lengths(Case):
    def test_every_point_has_a_time_or_a_reason(self):
        out = self.tmp / "lengths"
        done = self.script("lengths", "--lengths", 256, 512, 1024, 2048, "--tokens", 1024, "--d-model", 8, "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = out / "test-fp32.h5"
        run = results.read(path)
        self.assertEqual(run.kind, "bench")
        rows = {
            (v, t): (b, s, r)
            for v, t, b, s, r, m in zip(
                *(run.bench[k] for k in ("variant", "T", "B", "state", "reason", "mode")), strict=True
            )
            if m == "train"
        }
        self.assertEqual(len(rows), 12)
        forward = [s for m, s in zip(run.bench["mode"], run.bench["state"], strict=True) if m == "forward"]
        self.assertEqual(sorted(forward), ["ok"] * 11 + ["skipped"])
        self.assertEqual([rows["s4d", t][0] for t in (256, 512, 1024, 2048)], [4, 2, 1, 1])
        self.assertEqual({rows["s4d", t][1] for t in (256, 512, 1024, 2048)}, {"ok"})
        self.assertEqual(rows["brand_new", 512][1:], ("skipped", "needs 9 MiB, the device has 1 MiB free"))
        self.assertEqual([rows["mamba", t][1] for t in (256, 512)], ["ok", "ok"])
        self.assertEqual(rows["mamba", 1024][1:], ("skipped", "ended the program by signal 9"))
        self.assertEqual(rows["mamba", 2048][2], "not tried: a shorter one ended the program by signal 9")
        with h5py.File(path) as f:
            np.testing.assert_allclose(f["timing/step.s4d.train.B4.T256.D8"][...], 256e-6)
        self.assertEqual(self.script("lengths", "--variants", "s4e", "--out", out).returncode, 2)

    def test_a_stopped_run_keeps_what_it_has(self):
        out = self.tmp / "lengths"
        words = (
            "--variants",
            "s4d",
            "brand_new",
            "--lengths",
            256,
            4096,
            "--tokens",
            1024,
            "--d-model",
            8,
            "--out",
            out,
        )
        with subprocess.Popen(self.command("lengths", *words), stdout=subprocess.PIPE, text=True) as run:
            self.assertIn("s4d", run.stdout.readline())
            run.send_signal(signal.SIGTERM)
            self.assertIn("stopped by SIGTERM: 4 points were left", run.communicate(timeout=60)[0])
        self.assertEqual(run.returncode, 128 + signal.SIGTERM)
        bench = results.read(out / "test-fp32.h5").bench
        self.assertEqual([s for v, s in zip(bench["variant"], bench["state"], strict=True) if v == "s4d"], ["ok"] * 4)
        self.assertEqual({r for v, r in zip(bench["variant"], bench["reason"], strict=True) if v == "brand_new"},
                         {"not tried: stopped by SIGTERM"})  # fmt: skip


if __name__ == "__main__":
    unittest.main()
