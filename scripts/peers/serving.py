"""What the processes that stand ready between their rounds have in common: one line of JSON says what stands ready, or
{"failed": why}; for every number on standard input, so many samples, one line of JSON."""

import json
import resource
import sys
import time
from collections.abc import Callable


def peak_rss() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(**facts) -> None:
    print(json.dumps(facts), flush=True)


def why(e: Exception) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return f"{type(e).__name__}: {lines[0] if lines else ''}"[:300]


def serve(prepare: Callable[[], tuple[dict, Callable[[int], dict]]]) -> int:
    """prepare gives the facts and what takes n samples: {"seconds": {phase: [..]}, ...}. Returns the exit code."""
    begin, start_rss = time.perf_counter(), peak_rss()
    try:
        facts, samples = prepare()
        say(**facts, start_rss=start_rss, setup=time.perf_counter() - begin)
        for line in sys.stdin:
            say(**samples(int(line)), peak_rss=peak_rss())
    except Exception as e:
        say(failed=why(e))
        return 1
    return 0
