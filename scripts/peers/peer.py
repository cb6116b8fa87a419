"""The other side of a comparison: processes that wait between their rounds, each says what serving.py says."""

import json
import math
import os
import select
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

MODES = ("eager", "compile", "graph", "compile_graph")


class Peer:
    """One process in one mode. What it cannot do is a reason in `failed`, never an exception."""

    def __init__(self, python: Path, script: str, mode: str, words: list[str]):
        self.mode, self.failed, self.facts, self.process = mode, "", {}, None
        self.seconds: dict[str, list[float]] = {}  # by phase
        self.memory: dict[str, int] = {}
        self.words = [str(python), str(Path(__file__).with_name(script)), *map(str, words), "--mode", mode]

    def start(self, compilers: int) -> None:
        self.said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - open as long as the process
        told = {"TORCHINDUCTOR_COMPILE_THREADS": str(compilers), "TRITON_CACHE_AUTOTUNING": "1"}
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True,
            start_new_session=True, env=os.environ | told,
        )  # fmt: skip

    def wait(self, deadline: float) -> None:
        """Until it stands ready, or time.monotonic() is `deadline`."""
        self.facts = self._answer(deadline, "not ready")

    def round(self, samples: int, limit: float) -> None:
        """Takes samples, in at most `limit` seconds."""
        if self.failed:
            return
        try:
            self.process.stdin.write(f"{samples}\n")
            self.process.stdin.flush()
        except OSError as e:
            self._fail(str(e))
            return
        answer = self._answer(time.monotonic() + limit, "no samples")
        for phase, seconds in answer.get("seconds", {}).items():
            self.seconds.setdefault(phase, []).extend(seconds)
        for key in ("peak_rss", "allocated", "reserved"):
            self.memory[key] = max(self.memory.get(key, 0), answer.get(key, 0))

    def _answer(self, deadline: float, what: str) -> dict:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self.process.stdout], [], [], left)[0]:
            self._fail(f"{what} when its time was over")
            return {}
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            last = [text.strip() for text in self.said if text.strip()][-1:]
            self._fail(" ".join([f"ended with code {self.process.returncode}", *last]))
            return {}
        answer = json.loads(line)
        if "failed" in answer:
            self._fail(answer["failed"])
            return {}
        return answer

    def _fail(self, why: str) -> None:
        self.failed, self.seconds = why, {}
        self.close()

    def refuse(self, why: str) -> None:
        """Is not to be started."""
        self.failed = why

    def median(self, phase: str) -> float:
        """Seconds; infinity without samples."""
        return statistics.median(self.seconds.get(phase) or [math.inf])

    def close(self) -> None:
        """Ends the process and the compilers it has started."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
