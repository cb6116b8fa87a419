"""Published cells that a budget reaches, as data: scripts/presets/*.toml.

A file holds what its presets share (source, mark, margin, note, and the tables keys, search, evaluate) and a table
`presets` by name. A preset says
  cell      what was published, in words
  expected  the published score, in the task's metric
  margin    how far off still counts as reached
  tokens    padded tokens of one run, as published
  source    where score and recipe were read
  mark      V read in the named repository, T read in a transcript of the paper, F read off a figure, M from memory
  note      what the recipe does not say, or does otherwise
  keys      the point that is trained
  search    lists of values: all combinations run, the best one on average over the seeds counts, as published
  evaluate  keys of a second scoring of the checkpoint, which is then the score (lengths beyond training)
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import points
from .designs import grid, with_seeds
from .program import BadInput, Point

FOLDER = Path(__file__).parents[1] / "presets"
MARKS = {
    "V": "read in the named repository",
    "T": "read in a transcript of the paper",
    "F": "read off a figure by eye",
    "M": "from memory, not confirmed",
}
SHARED = ("source", "mark", "margin", "note")
TABLES = ("keys", "search", "evaluate")
LOWER_IS_BETTER = ("mse", "bits")


@dataclass
class Preset:
    name: str
    family: str
    cell: str
    expected: float
    tokens: float
    source: str
    mark: str
    margin: float
    note: str
    keys: Point
    search: dict[str, list]
    evaluate: Point

    def points(self, seeds: int, more: Point) -> list[Point]:
        """What is trained: every combination of `search` with every seed; `more` overrides keys."""
        said = {name: values for name, values in self.search.items() if name not in more}
        return with_seeds(grid(self.keys | more, said), seeds)

    def reached(self, score: float, metric: str) -> bool:
        """One-sided: better than published is reached too."""
        if metric in LOWER_IS_BETTER:
            return score <= self.expected + self.margin
        return score >= self.expected - self.margin


def _preset(name: str, family: str, file: dict, own: dict) -> Preset:
    said = {k: file[k] for k in SHARED if k in file} | {k: v for k, v in own.items() if k not in TABLES}
    tables = {t: file.get(t, {}) | own.get(t, {}) for t in TABLES}
    missing = {"cell", "expected", "tokens", "source", "mark", "margin"} - said.keys()
    if missing or not tables["keys"]:
        raise BadInput(f"preset {name} of {family}.toml lacks {', '.join(sorted(missing)) or 'keys'}")
    unknown = said.keys() - {"cell", "expected", "tokens", *SHARED}
    if unknown or said["mark"] not in MARKS:
        what = f"the unknown entry {min(unknown)}" if unknown else f"the mark {said['mark']!r}, not one of V, T, F, M"
        raise BadInput(f"preset {name} of {family}.toml has {what}")
    return Preset(name, family, **({"note": ""} | said), **tables)


def load(folder: Path = FOLDER) -> dict[str, Preset]:
    """Every preset by name, in the order of the files."""
    out: dict[str, Preset] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            file = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise BadInput(f"{path}: {e}") from None
        for name, own in file.get("presets", {}).items():
            if name in out:
                raise BadInput(f"{path}: {name} stands in {out[name].family}.toml too")
            out[name] = _preset(name, path.stem, file, own)
    return out


def find(name: str) -> Preset:
    known = load()
    if name not in known:
        raise BadInput(f"no preset {name}{points.nearest(name, known)}")
    return known[name]
