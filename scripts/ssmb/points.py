"""Loading a sweep file, and the validation of its points against `ssmbench list --json`.

A sweep file defines `points`, a list of dicts of command-line keys, mostly made with the designs below, and may define
`seeds`: how often a point that says no seed is run (default 3).
"""

import difflib
import re
import runpy
from pathlib import Path

from . import program
from .designs import Range, grid, latin, one_off, random, with_seeds, zip_
from .program import BadInput, Point

__all__ = ["Keys", "Range", "grid", "latin", "load", "nearest", "one_off", "random", "validate", "with_seeds", "zip_"]

SEEDS = 3
SHORT = {"variant", "layers", "depth", "task", "seed"}  # said without a section; everything else is <section>.<key>
SET_BY_SWEEP = {"run.out", "run.threads", "config", "json"}


def load(path: Path) -> list[Point]:
    """Run a sweep file and return its points, each once per seed."""
    if not path.is_file():
        known = [p.stem for p in sorted((Path(__file__).parents[1] / "sweeps").glob("*.py"))]
        raise BadInput(f"no sweep file {path}; scripts/sweeps has {', '.join(known)}")
    try:
        defined = runpy.run_path(str(path))
    except BadInput:
        raise
    except Exception as e:  # whatever a user's file raises is a fault of that file, told in one line
        raise BadInput(f"{path}: {type(e).__name__}: {e}") from None
    points, seeds = defined.get("points"), defined.get("seeds", SEEDS)
    if not isinstance(points, list) or not points or not all(isinstance(p, dict) for p in points):
        raise BadInput(f"{path}: must define a list `points` of at least one dict")
    if not isinstance(seeds, int) or seeds < 1:
        raise BadInput(f"{path}: seeds = {seeds!r}: allowed are whole numbers of 1 or more")
    return with_seeds(points, seeds)


def nearest(word: str, known) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"


class Keys:
    """Every key that a point may hold, from the registry of the binary."""

    def __init__(self, registry: dict):
        self.variants = {v["name"] for v in registry["variants"]}
        self.tasks = {t["name"] for t in registry["tasks"]}
        self.keys: dict[str, dict] = {k["name"]: k for k in registry["keys"]}
        self.owner: dict[str, str] = {}
        for kind, inner in (("variants", "knobs"), ("tasks", "keys")):
            for entry in registry[kind]:
                for knob in entry[inner]:
                    name = f"{entry['name']}.{knob['name'].removeprefix(entry['name'] + '.')}"
                    self.keys[name] = knob
                    self.owner[name] = entry["name"]

    def check(self, point: Point) -> None:
        """Raises BadInput that names the first wrong key or value."""
        used = self._used(point)
        for key, value in point.items():
            if key in SET_BY_SWEEP:
                raise BadInput(f"{key} is set by sweep, not by a point")
            if key.removeprefix("model.") in ("variant", "layers") or key == "task":
                continue
            if key not in self.keys and key not in SHORT:
                raise BadInput(f"unknown key {key}{nearest(key, set(self.keys) | SHORT)}")
            if key in self.owner and self.owner[key] not in used:
                raise BadInput(f"{key} does nothing here: this point uses {', '.join(sorted(used)) or 'no variant'}")
            self._check_value(key, value)

    def _used(self, point: Point) -> set[str]:
        """The variants and the task of a point."""
        said = {k.removeprefix("model."): str(v) for k, v in point.items()}
        if "task" not in said:
            raise BadInput(f"a point needs task; known: {', '.join(sorted(self.tasks))}")
        if "variant" not in said and "layers" not in said:
            raise BadInput(f"a point needs variant or layers; known: {', '.join(sorted(self.variants))}")
        if "layers" in said:
            mixers = {part.split("*")[0].strip() for part in said["layers"].split(",")}
        else:
            mixers = {said["variant"]}
        for name in sorted(mixers - self.variants):
            raise BadInput(f"unknown variant {name}{nearest(name, self.variants)}")
        if said["task"] not in self.tasks:
            raise BadInput(f"unknown task {said['task']}{nearest(said['task'], self.tasks)}")
        return mixers | {said["task"]}

    def _check_value(self, key: str, value: object) -> None:
        entry = self.keys.get(key, {"type": "integer", "lo": 0})
        kind, said = entry.get("type", "text"), program.text(value)
        if kind in ("integer", "int") and not re.fullmatch(r"[+-]?\d+", said):
            raise BadInput(f"{key}: {said!r} is not an integer")
        if kind in ("boolean", "bool") and said not in ("true", "false"):
            raise BadInput(f"{key}: {said!r} is not true or false")
        if kind in ("text", "string"):
            allowed = entry.get("values") or []
            if allowed and not entry.get("open") and said not in allowed:
                raise BadInput(f"{key}: {said!r} is not one of {', '.join(map(str, allowed))}{nearest(said, allowed)}")
            return
        if kind in ("boolean", "bool"):
            return
        try:
            number = float(said)
        except ValueError:
            raise BadInput(f"{key}: {said!r} is not a number") from None
        lo, hi = entry.get("lo"), entry.get("hi")
        if (lo is not None and number < lo) or (hi is not None and number > hi):
            raise BadInput(f"{key}: {said} is outside [{'-inf' if lo is None else lo}, {'inf' if hi is None else hi}]")


def validate(points: list[Point], where: str) -> None:
    """The whole list against the registry, before anything runs. Raises BadInput with up to ten faults."""
    keys, faults = Keys(program.registry()), []
    for i, point in enumerate(points):
        try:
            keys.check(point)
        except BadInput as e:
            faults.append(f"{where}: point {i + 1} of {len(points)}: {e}")
    if faults:
        more = [f"... and {len(faults) - 10} more"] if len(faults) > 10 else []
        raise BadInput("\n".join(faults[:10] + more))
