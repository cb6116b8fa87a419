"""scripts/sweep: running, resuming, failures, estimates: python tests/test_sweep.py"""

import json
import os
import signal
import subprocess
import sys
import time
import unittest

from stubbed import SCRIPTS, Case

from ssmb import points, program


class Sweep(Case):
    def test_runs_then_resumes(self):
        first = self.sweep('grid(base, {"seed": [1, 2]}) + [base | {"seed": 1}]', "--workers", 2)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertIn("1 of 3 points repeat", first.stdout)
        self.assertIn("2 complete", first.stdout)
        stamps = [r.path.stat().st_mtime_ns for r in self.runs()]
        second = self.sweep('grid(base, {"seed": [1, 2, 3]})')
        self.assertIn("2 left as they are, 1 to run", second.stdout)
        self.assertEqual([r.path.stat().st_mtime_ns for r in self.runs()][:2], stamps)

    def test_failures_cost_one_run_and_are_named(self):
        done = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1]})')
        self.assertEqual(done.returncode, 1)
        for word in ("loss is not finite", "needs 1 TiB", "SIGKILL", "disk is full"):
            self.assertIn(word, done.stdout)
        self.assertIn("1 complete, 1 skipped, 1 diverged, 2 failed", done.stdout)
        again = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1]})')
        self.assertIn("3 left as they are, 2 to run", again.stdout)
        failed = self.sweep('grid(base, {"seed": [8, 9, 10, 11, 1, 2]})', "--failed")
        self.assertIn("2 left as they are, 4 to run", failed.stdout)
        self.assertIn("1 not run", failed.stdout)

    def test_stale_results_are_told_and_redone_on_request(self):
        self.sweep("[base]")
        os.environ["STUB_SHA"] = "b" * 40
        self.assertIn("1 results come from another code version", self.sweep("[base]").stdout)
        self.assertEqual(self.runs()[0].version[0], "a")
        self.assertIn("1 to run", self.sweep("[base]", "--rerun-stale").stdout)
        self.assertEqual(self.runs()[0].version[0], "b")

    def test_interrupt_stops_the_child_and_keeps_the_rest(self):
        path = self.write('grid(base, {"seed": [1, 12, 2]})')
        command = [sys.executable, "-B", str(SCRIPTS / "sweep"), str(path), "--out", str(self.tmp / "out")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(self.tmp.glob("out/*.h5"))) < 2:
            time.sleep(0.1)
        busy = self.script("sweep", path, "--out", self.tmp / "out")
        self.assertEqual(busy.returncode, 1)
        self.assertIn("another sweep", busy.stderr)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, out + err)
        self.assertNotIn("Traceback", err)
        self.assertIn("1 complete, 1 interrupted, 1 not run", out)
        self.assertEqual(sorted(r.state for r in self.runs()), ["complete", "interrupted"])

    def test_what_cannot_be_started_costs_that_run(self):
        ids = [program.run_id({"task": "listops", "variant": "s4d", "seed": s}) for s in (1, 2)]
        (self.tmp / "out" / f"{ids[0]}.log").mkdir(parents=True)  # as a full disk: the log cannot be opened
        done = self.sweep('grid({"task": "listops", "variant": "s4d"}, {"seed": [1, 2]})')
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("could not be started", done.stdout)
        self.assertIn("1 complete, 1 failed", done.stdout)

    def test_no_resume_runs_all_again(self):
        self.sweep('grid(base, {"seed": [1, 2]})')
        self.assertIn("0 to run", self.sweep('grid(base, {"seed": [1, 2]})', "--resume").stdout)
        self.assertIn("2 to run", self.sweep('grid(base, {"seed": [1, 2]})', "--no-resume").stdout)

    def test_workers_are_spread_over_devices(self):
        done = self.sweep('grid(base, {"seed": [1, 2, 3, 4]})', "--devices", "3,5")
        self.assertIn("2 x ", done.stdout)
        seen = [p.read_text().strip() for p in sorted(self.tmp.glob("out/*.log"))]
        self.assertEqual({f"device {n}" for n in (3, 5)}, set(seen))

    def test_identities_are_asked_of_the_program_once(self):
        self.sweep('grid(base, {"seed": [1, 2]})')
        cache = self.tmp / "out" / ".sweep.ids.json"
        known = json.loads(cache.read_text())
        self.assertEqual(len(known["ids"]), 2)
        wrong = "0" * 12
        cache.write_text(json.dumps(known | {"ids": dict.fromkeys(known["ids"], wrong)}))
        self.assertIn(wrong, self.sweep('grid(base, {"seed": [1, 2]})', "--dry-run").stdout)
        os.utime(self.tmp / "ssmbench", ns=(0, 0))  # another binary
        self.assertNotIn(wrong, self.sweep('grid(base, {"seed": [1, 2]})', "--dry-run").stdout)

    def test_dry_run_runs_nothing(self):
        done = self.sweep('grid(base, {"seed": [1, 2]})', "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"seed=2.*1,000.*1\.0.*10 k +≥ 4:40")
        # 100 steps of 1 + 1 s, forward passes of 2 evaluations of 100 and of 600 examples in batches of 10: 80 s; two
        self.assertIn("2 to run, ≥ 9:20", done.stdout)
        self.assertFalse((self.tmp / "out").exists())
        self.sweep("[base]")  # trains 1 s instead of the 200 s above
        self.assertRegex(self.sweep('grid(base, {"seed": [1, 2]})', "--dry-run").stdout, r"1 to run, 0:01\n")
        capped = self.sweep('grid(base, {"seed": [3], "train.seconds": 50})', "--dry-run").stdout
        self.assertIn("1 to run, 1:55\n", capped)  # 50 s of training, 65 s of evaluation

    def test_sweeps_of_the_project_load(self):
        for path in (SCRIPTS / "sweeps").glob("*.py"):
            self.assertEqual(len({p["variant"] for p in points.load(path)}), 5, path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
