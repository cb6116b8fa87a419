"""Our side of a comparison of parts: `ssmbench bench` as a process, and the samples it leaves behind."""

import subprocess
import tempfile
from pathlib import Path

from ssmb import program, results
from ssmb.program import Point, ProgramError


def bench(point: Point, checked: bool) -> results.Run:
    """One case, validated first if `checked`. Raises ProgramError with the reason when it was not timed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.h5"
        words = [str(program.binary()), "bench", *program.arguments(point), "--out", str(out), "--no-ceilings"]
        done = subprocess.run(words + ["--no-check"] * (not checked), capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():  # a bench that this machine cannot do ends with 0 and a reason
            raise ProgramError((done.stderr or done.stdout).strip().splitlines()[-1])
        run = results.read(out)
    if run.state == "unreadable" or not len(run.bench.get("state", ())):
        raise ProgramError(f"{out.name}: {run.state} {run.reason}")
    if run.bench["state"][0] not in ("ok", "unstable"):
        raise ProgramError(f"{run.bench['state'][0]}: {run.bench['reason'][0]}")
    return run


def seconds_of(run: results.Run, part: str) -> list[float]:
    """Samples of the entry of /timing whose name ends so. Raises ProgramError when there is no such, or several."""
    found = [name for name in run.timing if name.endswith(part)]
    if len(found) != 1:
        raise ProgramError(f"{len(found)} timings end in {part}: {', '.join(found or run.timing)}")
    return list(run.timing[found[0]]["seconds"])
