"""The program from outside: what it refuses and how, and what its commands print: python tests/test_program.py"""

import json
import math
import os
import random
import resource
import shutil
import subprocess
import unittest
from pathlib import Path

import numpy as np
from program import SMALL, Case, arrays, checkpoint, state, words

GOOD_TSV = "Source\tTarget\r\n( ( ( [MAX 3 ) 4 ) ] )\t4\r\n"
READS = {"task": "listops", "induction.length": None, "listops.data_dir": "tsv", "train.steps": 2, "run.out": "out"}


class BadKeys(Case):
    def test_names_and_values(self):
        small = self.train_words()
        growing = [*small, "--induction.min_length", "16", "--train.curriculum", "0.5"]
        listops = ["describe", "--task", "listops", "--variant", "s4d"]
        for arguments, parts in [
            (["trian"], ["unknown command 'trian'", "'train'"]),
            (["list", "extra"], ["unexpected argument 'extra'"]),
            (["train", "extra", "--task", "induction"], ["unexpected argument 'extra'"]),
            (["train"], ["no task was given", "induction"]),
            ([*small, "--task", "induktion"], ["unknown task 'induktion'", "did you mean 'induction'"]),
            ([*small, "--variant", "s4e"], ["unknown variant 's4e'", "did you mean 's4"]),
            ([*small, "--s4d.d_stat", "4"], ["s4d.d_stat", "did you mean 's4d.d_state'"]),
            ([*small, "--train.step", "4"], ["train.step", "did you mean 'train.steps'"]),
            ([*small, "--lr", "0.1"], ["'lr'", "did you mean 'train.lr'"]),
            ([*small, "--mamba.d_state", "4"], ["mamba.d_state", "no layer is 'mamba'", "s4d"]),
            ([*small, "--listops.depth", "4"], ["listops.depth", "the task is 'induction'"]),
            ([*small, "--train.steps", "many"], ["train.steps = 'many'", "an integer in"]),
            ([*small, "--train.steps", "1e3"], ["train.steps = '1e3'", "an integer in"]),
            ([*small, "--train.steps", "99999999999999999999"], ["train.steps", "an integer in"]),
            ([*small, "--train.steps="], ["train.steps"]),
            ([*small, "--train.steps"], ["train.steps", "missing"]),
            ([*small, "--train.lr", "-1"], ["train.lr = '-1'", "[0, 10]"]),
            ([*small, "--train.lr", "nan"], ["train.lr = 'nan'", "[0, 10]"]),
            ([*small, "--seed", "abc"], ["seed.init = 'abc'", "an integer"]),
            ([*small, "--depth", "0"], ["model.depth = '0'", "[1, 256]"]),
            ([*small, "--model.pooling", "men"], ["model.pooling = 'men'", "nearest 'mean'"]),
            ([*small, "--run.quiet", "yes"], ["run.quiet = 'yes'", "true or false"]),
            ([*small, "--run.threads", "-1"], ["run.threads = '-1'", "[0, 4096]"]),
            ([*small, "--run.threads", "4096"], ["run.threads = 4096", "the cores of this machine"]),
            ([*small, "--induction.length", "7"], ["induction.length = '7'", "[8, 1048576]"]),
            ([*small, "--train.length", "32"], ["train.length = 32", "up to 64"]),
            (["describe", *small[1:], "--train.length", "32"], ["train.length = 32", "up to 64"]),
            ([*small, "--induction.min_length", "7"], ["induction.min_length = 7", "0, or 8 to length = 64"]),
            ([*small, "--train.curriculum", "-1"], ["train.curriculum = '-1'", "[0, 1e+09]"]),
            ([*small, "--train.curriculum", "4"], ["train.curriculum = 4", "induction", "all 64 long"]),
            ([*growing, "--train.curriculum_from", "65"], ["train.curriculum_from = 65", "up to 64"]),
            ([*growing, "--train.curriculum_from", "15"], ["curriculum_from = 15", "0 of the first 1024", "an eighth"]),
            ([*growing, "--train.seconds", "9"], ["train.curriculum = 0.5", "train.seconds", "whole steps"]),
            (["describe", *growing[1:], "--train.curriculum_from", "65"], ["train.curriculum_from = 65", "up to 64"]),
            ([*small, "--layers", "s4d,mambo"], ["'mambo'", "did you mean 'mamba'"]),
            ([*small, "--layers", "s4d,,mamba"], ["variant in model.layers ''"]),
            ([*small, "--layers", "s4d*x"], ["s4d*x", "not a positive integer"]),
            ([*small, "--layers", "s4d*0"], ["s4d*0", "not a positive integer"]),
            ([*small, "--layers", "s4d*1000000000"], ["model.layers", "more than 256 layers"]),
            ([*small, "--view", "scn"], ["s4d.view = 'scn'", "nearest 'scan'"]),
            ([*small, "--view", "scan", "--layers", "s4d,lstm"], ["view = 'scan'", "lstm", "no views"]),
            ([*small, "--s4d.d_state", "7"], ["s4d.d_state = 7", "even"]),
            ([*small, "--model.reset_token", "99"], ["model.reset_token = 99", "tokens of this task are 0 to"]),
            ([*small, "--variant", "hyena", "--model.reset_token", "1"], ["hyena", "one kernel for a whole row"]),
            (
                [*small, "--variant", "mamba", "--mamba.inner", "hyena", "--model.reset_token", "1"],
                ["mamba.inner = hyena", "one kernel for a whole row", "allowed are s6"],
            ),
            ([*small, "--model.frontend", "patch:4"], ["model.frontend = 'patch:4'", "real-valued"]),
            (
                [*listops, "--listops.min_length", "900", "--listops.max_length", "800"],
                ["listops.min_length = 900", "nearest"],
            ),
            (["data", "--task", "induction", "--split", "tset"], ["unknown split 'tset'", "'test'"]),
            (["data", "--task", "induction", "--examples", "0"], ["--examples 0", "1 or more"]),
            (["data", "--task", "induction", "--examples", "x"], ["'x'", "--examples"]),
            (["data", "--task", "induction", "--native", "x.tsv"], ["--native", "induction", "--out"]),
        ]:
            self.refused(arguments, *parts)

    def test_config_files(self):
        def file(text):
            path = self.tmp / "keys.ini"
            path.write_text(text)
            return [*self.train_words(), "--config", str(path)]

        self.refused(file("train.stepz = 3\n"), "keys.ini", "train.stepz", "did you mean 'train.steps'")
        self.refused(file("train.lr = 0.1\ntrain.steps\n"), "keys.ini", "'train.steps'")
        self.refused(file("train.beta1 = x\n"), "train.beta1 = 'x'")
        self.refused(file("\x00\x7fELF"), "keys.ini")
        self.refused([*self.train_words(), "--config", "absent.ini"], "absent.ini", "cannot be read")
        self.refused([*self.train_words(), "--config", str(self.tmp)], str(self.tmp), "cannot be read")

    def test_of_a_key_given_twice_the_last_one_wins(self):
        def run_id(*more):
            return self.good("describe", "--run-id", "--variant", "s4d", *more)

        (self.tmp / "one.ini").write_text("train.lr = 0.5\ntrain.lr = 0.25\ndepth = 3\n")
        (self.tmp / "two.ini").write_text("[train]\nlr = 0.125\n")
        wanted = run_id("--train.lr", "0.125", "--depth", "3")
        self.assertEqual(run_id("--config", "one.ini", "--train.lr", "0.125"), wanted)
        self.assertEqual(run_id("--train.lr", "0.125", "--config", "one.ini"), wanted)
        self.assertEqual(run_id("--config", "one.ini", "--config", "two.ini"), wanted)
        self.assertEqual(run_id("--train.lr", "1", "--depth", "3", "--train.lr", "0.125"), wanted)
        self.assertEqual(run_id("--depth", "9", "--model.depth", "3", "--train.lr", "0.125"), wanted)
        self.assertEqual(run_id("--config", "one.ini"), run_id("--train.lr", "0.25", "--depth", "3"))
        self.assertEqual(run_id("--seed.data", "1", "--seed", "3"), run_id("--seed", "3"))


class Scores(Case):
    def test_beside_an_accuracy_stands_what_needs_no_input(self):
        found = arrays(self.train(train__steps=4), "eval")
        test = found["split"] == b"test"
        made = ["data", "--task", "induction", "--induction.length", "64", "--split", "test", "--examples", "8"]
        self.good(*made, "--out", "test.h5")
        labels = arrays(self.tmp / "test.h5", "/")["targets"]
        self.assertAlmostEqual(found["majority"][test][-1], np.bincount(labels[labels >= 0]).max() / 8, 12)
        self.assertTrue((found["permuted"] >= 0).all() and (found["permuted"] <= found["majority"]).all())
        np.testing.assert_allclose(found["scaled"], (found["metric"] - 1 / 15) / (14 / 15), atol=1e-12)
        errors = arrays(self.train(task="adding", adding__length=16, induction__length=None, train__steps=2), "eval")
        self.assertFalse(errors.keys() & {"majority", "permuted", "scaled"})

    def test_kept_examples_give_the_same_run(self):
        """run.cache: bits and id of a run are those without it; the second run reads what the first made."""
        gabor = {"task": "gabor", "induction__length": None, "train__steps": 3, "train__test_examples": 4}
        gabor |= {"gabor.train_size": 8, "gabor.validation_size": 8, "gabor.test_size": 4}
        bits = []
        for out, cache in (("direct", None), ("made", "kept"), ("read", "kept")):
            results = self.train(**gabor, run__out=self.tmp / out, run__cache=cache)
            bits.append(
                [results.name, arrays(results, "train")["loss"].tobytes(), arrays(results, "eval")["loss"].tobytes()]
            )
            if cache:
                self.assertEqual(len(list((self.tmp / "kept").iterdir())), 3)
        self.assertEqual(bits[0], bits[1])
        self.assertEqual(bits[0], bits[2])


class BadFiles(Case):
    def tsv(self, text, name="basic_val.tsv"):
        folder = self.tmp / "tsv"
        folder.mkdir(exist_ok=True)
        for each in ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv"):
            (folder / each).write_bytes((text if each == name else GOOD_TSV).encode("latin-1"))

    def test_tables(self):
        arguments = ["train", *words(SMALL | READS)]
        self.refused(arguments, "tsv/basic_train.tsv", "No such file")
        self.tsv(GOOD_TSV)
        self.good(*arguments)
        described = json.loads(self.good("describe", "--json", *arguments[1:]))
        self.assertEqual(described["length"], 4)  # [MAX 3 4 ]: of the files, not of the generator
        shutil.rmtree(self.out)
        for text, part in [
            ("", "no example"),
            ("Source\tTarget\n", "no example"),
            ("Source,Target\n", "line 1"),
            ("\x7fELF\x01\x00", "line 1"),
            (GOOD_TSV + "( ( [MAX 3", "line 3"),
            (GOOD_TSV + "[MAX 3 4 ]\t5\n", "line 3: label '5'"),
            (GOOD_TSV + "[MAX 3 4 ]\tx\n", "line 3: label 'x'"),
            (GOOD_TSV + "[MAX 3 [FOO 4 ] ]\t4\n", "'[FOO'"),
            (GOOD_TSV + "[MAX 3 4\t4\n", "line 3"),
            (GOOD_TSV + "]\t4\n", "line 3"),
        ]:
            self.tsv(text)
            self.refused(arguments, "basic_val.tsv", part)
            self.refused(["describe", *arguments[1:]], "basic_val.tsv", part)

    def test_checkpoints(self):
        results = self.train(train__steps=2)
        saved = checkpoint(results).read_bytes()
        foreign = {
            "absent.h5": (None, "No such file"),
            "empty.h5": (b"", "empty"),
            "text.h5": (b"hello\n" * 1000, "not an HDF5 file"),
            "truncated.h5": (saved[: len(saved) // 2], "damaged"),
            "short.h5": (saved[:-17], "damaged"),
            "flipped.h5": (
                saved[: len(saved) // 2] + bytes([saved[len(saved) // 2] ^ 1]) + saved[len(saved) // 2 + 1 :],
                "damaged",
            ),
            "results.h5": (results.read_bytes(), "not a checkpoint"),
        }
        results.unlink()
        for name, (content, part) in foreign.items():
            if content is not None:
                (self.tmp / name).write_bytes(content)
            self.refused(["eval", name], name, part)
            if content is None:
                continue
            # A run that would resume from it: refused, and what it leaves says failed.
            checkpoint(results).write_bytes(content)
            self.refused(self.train_words(train__steps=2), checkpoint(results).name, part)
            self.assertEqual(state(results), "failed")
        checkpoint(results).write_bytes(saved)
        self.refused(["eval", self.tmp], str(self.tmp), "folder")
        self.refused(["eval"], "needs a checkpoint")
        path = str(checkpoint(results))
        for more, parts in [
            (["--depth", "3"], ["--depth", "the model is that of the checkpoint"]),
            (["--s4d.d_state", "4"], ["--s4d.d_state", "the model is that of the checkpoint"]),
            (["--weights", "bset"], ["'bset'", "'best'"]),
            (["--weights", "best"], ["best/embed.weight"]),
            (["--examples", "0"], ["--examples 0"]),
            (["--train.length", "32"], ["train.length = 32", "up to 64"]),
            (["--task", "listops"], ["embed.weight", "(17, 16)"]),
            (["--out", path], ["--out", "the checkpoint itself"]),
            ([path], [f"unexpected argument '{path}'"]),
        ]:
            self.refused(["eval", path, *more], *parts)
        self.assertEqual(checkpoint(results).read_bytes(), saved)


class BadPlaces(Case):
    """Folders that cannot be written and disks that are full: exit code 1, the place and the reason."""

    def test_not_a_folder(self):
        (self.tmp / "file").write_text("")
        self.refused(self.train_words(run__out="file"), "file", code=1)
        self.refused(self.train_words(run__out="file/below"), "file/below", code=1)
        self.refused(
            ["data", "--task", "induction", "--examples", 2, "--out", "absent/x.h5"],
            "absent/x.h5",
            "No such file",
            code=1,
        )
        result = self.train(train__steps=2)
        path = checkpoint(result)
        result.unlink()
        done = self.call("eval", path, "--examples", 8, "--out", "file/x.h5")
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn("file/x.h5", done.stderr)

    def test_read_only_folder(self):
        how = {}
        if os.geteuid() == 0:  # whom permissions do not bind
            how = {"user": 65534, "group": 65534, "extra_groups": []}
            self.tmp.chmod(0o755)
            try:
                self.assertEqual(self.call("list", **how).returncode, 0)
            except (PermissionError, AssertionError):
                self.skipTest("root, and another user cannot run the program where it lies")
        self.out.mkdir(mode=0o555)
        self.refused(self.train_words(), str(self.out), "Permission denied", code=1, **how)
        self.refused(self.train_words(run__out=self.out / "below"), "below", "Permission denied", code=1, **how)
        self.assertEqual(list(self.out.iterdir()), [])

    def full(self, size_kib: int, before=(), **how):
        done = self.call(*self.train_words(train__eval_every=100, model__d_model=64), before=before, **how)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(f"failed: cannot write '{self.out}", done.stderr, f"a disk of {size_kib} KiB")
        self.assertEqual(self.complete(), [])
        return done.stderr

    def test_files_may_not_grow(self):
        for size_kib in (1, 64):  # the first results file, the first checkpoint

            def limit(size=size_kib):
                resource.setrlimit(resource.RLIMIT_FSIZE, (size << 10, size << 10))

            error = self.full(size_kib, preexec_fn=limit, restore_signals=False)
            self.assertIn("File too large", error)
            self.assertEqual([p.name for p in self.out.iterdir() if p.name.endswith(".tmp")], [])

    def test_full_disk(self):
        mount = 'mount -t tmpfs -o size="$1" none "$2" 2>/dev/null || exit 77; shift 2; "$@"; code=$?; '
        mount += 'cp -r "$0"/. "$0.after" && exit $code'
        self.out.mkdir()
        for size_kib in (8, 64):
            before = ["unshare", "-rm", "sh", "-c", mount, self.out, f"{size_kib}k", self.out]
            if (
                not shutil.which("unshare")
                or subprocess.run([*before, "true"], capture_output=True, check=False).returncode
            ):
                self.skipTest("no file system of a few KiB can be mounted here")
            error = self.full(size_kib, before=before)
            self.assertIn("No space left on device", error)
            for left in Path(f"{self.out}.after").iterdir():
                self.assertIn(state(left), ("running", "failed"), left)


class Commands(Case):
    def test_what_a_build_cannot_do_is_a_result(self):
        results = self.train(run__gemm="tf32")
        self.assertEqual(state(results), "skipped")

    def test_help(self):
        usage = self.good("--help")
        commands = [line.split()[0] for line in usage.splitlines() if line.startswith("  ")]
        self.assertLessEqual({"list", "describe", "train", "eval", "data"}, set(commands))
        for command in commands:
            text = self.good(command, "--help")
            self.assertTrue(text.startswith(f"ssmbench {command}"), text[:80])
            self.assertIn("--help", text)
        self.assertIn("last one wins", self.good("train", "--help"))
        self.assertEqual(self.call().returncode, 2)
        self.assertRegex(self.good("--version"), r"^ssmbench ([0-9a-f]{12}|unknown)\b.*, (float|double), ")

    def test_list_and_describe_as_json(self):
        registry = json.loads(self.good("list", "--json"))
        for variant in registry["variants"]:
            self.assertIn(variant["name"], self.good("list"))
            d = json.loads(
                self.good("describe", "--json", "--variant", variant["name"], "--depth", 1, "--model.d_model", 8)
            )
            self.assertEqual(d["layers"], [variant["name"]])
            self.assertEqual(d["parameter_count"], sum(math.prod(p["shape"]) for p in d["parameters"] if p["trained"]))
            for op in d["ops"]:
                self.assertGreaterEqual(op["forward"]["flops"], 0)
                self.assertGreater(op["forward"]["bytes"], 0, op["op"])
            self.assertGreater(d["memory"]["total"], 0)
        for task in registry["tasks"]:
            describe = ["describe", "--json", "--task", task["name"], "--depth", 1, "--model.d_model", 8]
            if "needs" in task["about"]:  # files that the user has
                self.refused(describe, task["name"] + ".data_dir", "--task")
                continue
            self.assertEqual(json.loads(self.good(*describe))["config"]["task"], task["name"])

    def test_run_id(self):
        registry = json.loads(self.good("list", "--json"))
        base = {"task": "listops", "model.layers": "s4d,mamba", "model.l_max": 2048}
        used = ("model.", "train.", "seed.", "run.", "listops.", "s4d.", "mamba.")

        def run_id(keys):
            return self.good("describe", "--run-id", *words(keys)).strip()

        many = base | {
            k["name"]: k["default"]
            for k in registry["keys"]
            if k["name"].startswith(used) and k["default"] and k["name"] not in base
        }
        self.assertRegex(run_id(base), "^[0-9a-f]{16}$")
        for seed in range(3):
            order = list(many.items())
            random.Random(seed).shuffle(order)
            self.assertEqual(run_id(dict(order)), run_id(base))
        seen = {run_id(base): "the defaults"}
        for key in registry["keys"]:
            name = key["name"]
            if not name.startswith(used) or name in ("run.gemm", "model.layers"):
                continue
            got = run_id(base | {name: other(key)})
            if name.startswith("run."):
                self.assertEqual(seen.get(got), "the defaults", name)
            else:
                self.assertNotIn(got, seen, f"{name} against {seen.get(got)}")
                seen[got] = name
        self.assertGreater(len(seen), 50)


def other(key: dict) -> str:
    """A value of a key of `list --json` that is valid and not its default."""
    now, high = key["default"], key["hi"]
    if key["type"] == "boolean":
        return "false" if now == "true" else "true"
    if key["type"] == "text":
        if key["name"] == "model.variant":
            return "cnn"
        return next((v for v in key["values"] if v != now), "elsewhere")
    step = 1 if key["type"] == "integer" else 1e-3
    up = (int if step == 1 else float)(now) + step
    return str(up if high is None or up <= high else up - 2 * step)


if __name__ == "__main__":
    unittest.main()
