"""scripts/sweep --slurm on a real Slurm of one node: an array, a requeue with its checkpoint, a sweep that is started
again while its tasks are queued: python tests/test_slurm.py"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import unittest

import slurm_cluster
from program import BINARY, ROOT, SMALL, Case, arrays, checkpoint, differing, state, words

WHY_NOT = slurm_cluster.why_not() or ("" if importlib.util.find_spec("submitit") else "submitit missing in .venv")
TIMES = ["train/seconds", "eval/seconds"]


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Slurm(Case):
    def setUp(self):
        super().setUp()
        self.cluster = self.enterContext(slurm_cluster.Cluster(self.tmp / "slurm"))
        base = {k: v for k, v in SMALL.items() if k not in ("run.out", "run.threads")}
        quick, long = base, base | {"train.steps": 2000, "run.checkpoint_every": 100, "train.eval_every": 1000}
        self.file = self.tmp / "mine.py"
        self.file.write_text(
            f"points = [{quick!r} | {{'seed': 1}}, {quick!r} | {{'seed': 2}}, {long!r} | {{'seed': 3}}]"
        )
        self.long = words(long | {"seed": 3})

    def start(self, *more) -> subprocess.Popen:
        command = [sys.executable, "-B", ROOT / "scripts/sweep", self.file, "--out", self.out, "--threads", "1", *more]
        env = os.environ | {"SSMBENCH": BINARY}
        sweep = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(sweep.kill)
        return sweep

    def wait_for(self, condition, what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"{what}\n{self.cluster.logs()}\n{self.said_by_tasks()}")
            time.sleep(0.1)

    def said_by_tasks(self) -> str:
        queue = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True, check=False).stdout
        return queue + "\n".join(p.read_text(errors="replace") for p in self.out.glob("slurm/*_log.*"))

    def test_array_requeue_and_second_start(self):
        calm = self.tmp / "calm"
        self.good("train", *self.long, "--run.out", calm, "--run.threads", "1")
        expected = next(p for p in calm.glob("*.h5") if not p.name.endswith(".ckpt.h5"))
        mine = self.out / expected.name

        sweep = self.start("--workers", "2", "--slurm", "time=60")
        self.wait_for(lambda: checkpoint(mine).exists(), "no checkpoint of the long run")
        subprocess.run(["scancel", "--signal=USR2", *self.running()], check=True, timeout=20)  # as before a time limit
        sweep.send_signal(signal.SIGINT)  # Slurm goes on without it
        said, _ = sweep.communicate(timeout=30)
        self.assertEqual(sweep.returncode, 130, said)
        refused = self.start("--workers", "2")
        said, _ = refused.communicate(timeout=60)
        self.assertEqual(refused.returncode, 1, said)
        self.assertIn("tasks of Slurm", said)

        again = self.start("--workers", "2", "--slurm", "time=60")
        self.wait_for(lambda: again.poll() is not None, "the requeued run did not end")
        said, _ = again.communicate()
        self.assertEqual(again.returncode, 0, f"{said}\n{self.cluster.logs()}\n{self.said_by_tasks()}")
        self.assertIn("in Slurm already, 0 to run", said)
        self.assertIn("3 complete", said)
        self.assertIn("is preempted", self.said_by_tasks() + said)
        self.assertEqual(state(mine), "complete")
        for group in ("train", "eval"):
            a, b = ({f"{group}/{k}": v for k, v in arrays(p, group).items()} for p in (expected, mine))
            self.assertEqual(differing(a, b, but=TIMES), [])

    def running(self) -> list[str]:
        done = subprocess.run(["squeue", "-h", "-r", "-t", "R", "-o", "%i"], capture_output=True, text=True, check=True)
        return done.stdout.split()


if __name__ == "__main__":
    if WHY_NOT:
        print(WHY_NOT)
        sys.exit(77)  # skipped, for ctest
    unittest.main()
