"""Calls to the ssmbench binary. Every key travels as `--key value`."""

import contextlib
import functools
import json
import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .venv import ROOT

Point = dict[str, object]  # key -> value, for example {"variant": "s4d", "listops.depth": 6}


class BadInput(Exception):
    """Something the user wrote is wrong: the message names it, and the script ends with exit code 2."""


class ProgramError(Exception):
    """The binary is missing or failed for a reason that is not the user's input: exit code 1."""


def binary() -> Path:
    """$SSMBENCH, or the openmp build of this tree."""
    path = Path(os.environ.get("SSMBENCH", ROOT / "build" / "openmp" / "ssmbench"))
    if not os.access(path, os.X_OK):
        raise ProgramError(
            f"{path} does not exist or cannot be run; cmake --preset openmp && cmake --build --preset openmp makes it"
        )
    return path


def text(value: object) -> str:
    """A value as the command line writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def arguments(point: Point) -> list[str]:
    return [word for key, value in point.items() for word in (f"--{key}", text(value))]


def call(*words: str) -> str:
    """Standard output of one short command. Exit code 2 becomes BadInput, any other failure ProgramError."""
    done = subprocess.run([str(binary()), *words], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
    raise (BadInput if done.returncode == 2 else ProgramError)(said)


@functools.cache
def registry() -> dict:
    """`ssmbench list --json`: variants with knobs, tasks with keys, and the keys of model, train and run."""
    return json.loads(call("list", "--json"))


def run_id(point: Point) -> str:
    return call("describe", "--run-id", *arguments(point)).strip()


def _stamp() -> str:
    told = binary().stat()
    return f"{binary()} {told.st_size} {told.st_mtime_ns}"


def run_ids(points: list[Point], cache: Path) -> list[str]:
    """run_id of every point. Those this binary has told before come from the file that remember_ids wrote, so that
    starting a sweep of a thousand points again takes a moment. Raises BadInput that names the point."""
    known = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(cache.read_text())
        known = said["ids"] if said["binary"] == _stamp() else {}

    def identify(numbered: tuple[int, Point]) -> str:
        i, point = numbered
        try:
            return known.get(shlex.join(arguments(point))) or run_id(point)
        except BadInput as e:
            raise BadInput(f"point {i + 1} of {len(points)}: {e}") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(identify, enumerate(points)))


def remember_ids(ids: dict[str, Point], cache: Path) -> None:
    """Writes run ids with their points; a full disk costs speed only."""
    text = json.dumps({"binary": _stamp(), "ids": {shlex.join(arguments(p)): i for i, p in ids.items()}})
    with contextlib.suppress(OSError):
        if not cache.exists() or cache.read_text() != text:
            temporary = cache.with_name(cache.name + ".tmp")
            temporary.write_text(text)
            temporary.replace(cache)


def describe(point: Point) -> dict:
    return json.loads(call("describe", "--json", *arguments(point)))


def describe_all(points: list[Point]) -> list[dict]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(describe, points))
