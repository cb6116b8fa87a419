"""A sweep killed with SIGKILL at random moments and started again ends with exactly all results, each equal to the
undisturbed one: python tests/test_sweep_kill.py. SSM_SWEEP_POINTS and SSM_SWEEP_KILLS (20 and 3) make it larger."""

import os
import random
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from program import BINARY, ROOT, SMALL, Case, arrays, differing, state

POINTS = int(os.environ.get("SSM_SWEEP_POINTS", "20"))
KILLS = int(os.environ.get("SSM_SWEEP_KILLS", "3"))
TIMES = ["train/seconds", "eval/seconds"]


class Killed(Case):
    def sweep_file(self) -> Path:
        base = {k: v for k, v in SMALL.items() if k not in ("run.out", "run.threads", "variant")}
        base |= {"depth": 1, "run.checkpoint_every": 3, "run.report_every": 1}
        axes = {"variant": ["s4d", "cnn"], "seed": list(range(1, POINTS // 2 + 1))}
        path = self.tmp / "tiny.py"
        path.write_text(f"from ssmb.points import grid\npoints = grid({base!r}, {axes!r})\n")
        return path

    def start(self, file: Path, out: Path) -> subprocess.Popen:
        command = [sys.executable, "-B", ROOT / "scripts/sweep", file, "--out", out, "--workers", "2", "--threads", "1"]
        env = os.environ | {"SSMBENCH": BINARY}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, file: Path, out: Path) -> float:
        begin, sweep = time.monotonic(), self.start(file, out)
        said, _ = sweep.communicate(timeout=1800)
        self.assertEqual(sweep.returncode, 0, said)
        self.assertIn(f"{POINTS} complete", said)
        return time.monotonic() - begin

    def results(self, out: Path) -> dict[str, Path]:
        return {p.name: p for p in out.glob("*.h5") if not p.name.endswith(".ckpt.h5")}

    def test_nothing_is_lost_or_changed(self):
        file, calm, hurt = self.sweep_file(), self.tmp / "calm", self.tmp / "hurt"
        took, draw, survived = self.finish(file, calm), random.Random(int(time.time())), 0
        for _ in range(KILLS):
            sweep = self.start(file, hurt)
            time.sleep(took / (KILLS + 1) * draw.uniform(0.5, 1.3) + 1.0)  # the last of them finds some work left
            survived += sweep.poll() is not None
            sweep.send_signal(signal.SIGKILL)
            sweep.communicate(timeout=60)
        self.assertLess(survived, KILLS, "all kills came after the sweep had ended")
        self.finish(file, hurt)

        expected, found = self.results(calm), self.results(hurt)
        self.assertEqual(len(expected), POINTS)
        self.assertEqual(expected.keys(), found.keys())
        for name, path in found.items():
            self.assertEqual(state(path), "complete")
            for group in ("train", "eval", "config"):
                a, b = ({f"{group}/{k}": v for k, v in arrays(p, group).items()} for p in (expected[name], path))
                self.assertEqual(differing(a, b, but=TIMES), [], f"{path}: {group}")
        print(f"{POINTS} points, {KILLS} kills ({survived} after the end), {took:.1f} s undisturbed", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
