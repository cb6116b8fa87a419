"""Designs: the lists of points that a sweep file is made of. Sweep files import them from ssmb.points.

A point is a dict of command-line keys. In the helpers a list means "each of these", anything else is one fixed value:

    base = {"task": "listops", "listops.depth": 6, "depth": 4}
    points = grid(base, {"variant": ["s4d", "mamba"], "train.lr": [0.001, 0.01]})      # 4 points
    points += one_off(base | {"variant": "s4d"}, {"s4d.init": ["inv", "legs"]})        # 1 + 2 points
    points += zip_(base, {"variant": ["s4d", "cnn"], "train.seconds": [180, 50]})      # 2 points
    points += latin(base, {"train.lr": Range(1e-4, 1e-1, "log"), "variant": ["s4d", "cnn"]}, 8)   # 8 points
"""

import itertools
import math
import random as standard
from dataclasses import dataclass

from .program import BadInput, Point


@dataclass(frozen=True)
class Range:
    """An interval that `random` and `latin` draw from. scale: linear, log, or whole (integers, both ends included)."""

    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self):
        if self.scale not in ("linear", "log", "whole"):
            raise BadInput(f"Range: scale is {self.scale!r}; allowed are linear, log, whole")
        if not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise BadInput(f"Range({self.low}, {self.high}, {self.scale!r}): needs low < high, and low > 0 for log")

    def at(self, part: float) -> float | int:
        """The value that lies at a part in [0, 1) of the interval; real numbers have three digits."""
        if self.scale == "whole":
            return int(self.low) + int(part * (int(self.high) - int(self.low) + 1))
        if self.scale == "log":
            value = self.low * (self.high / self.low) ** part
        else:
            value = self.low + (self.high - self.low) * part
        return min(max(float(f"{value:.3g}"), self.low), self.high)


def _lists(axes: dict) -> dict[str, list]:
    for key, v in axes.items():
        if isinstance(v, Range):
            raise BadInput(f"{key}: a Range has no list of values; random and latin draw from it")
    return {key: list(v) if isinstance(v, (list, tuple)) else [v] for key, v in axes.items()}


def grid(base: Point, axes: dict) -> list[Point]:
    """Every combination of the values of axes, each on top of base: a full factorial design."""
    axes = _lists(axes)
    return [base | dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def one_off(base: Point, axes: dict) -> list[Point]:
    """base itself, then base with one key changed at a time: an ablation."""
    changed = [base | {key: v} for key, values in _lists(axes).items() for v in values if base.get(key) != v]
    return [dict(base), *changed]


def zip_(base: Point, axes: dict) -> list[Point]:
    """The first values of all axes together, the second values together, and so on."""
    axes = _lists(axes)
    lengths = {key: len(v) for key, v in axes.items()}
    if len(set(lengths.values())) > 1:
        raise BadInput(f"zip_ needs lists of one length, found {lengths}")
    return [base | dict(zip(axes, values, strict=True)) for values in zip(*axes.values(), strict=True)]


def random(base: Point, axes: dict, n: int, seed: int = 1) -> list[Point]:
    """n points, every axis (a list or a Range) drawn by itself. The same n and seed give the same points."""
    draw = standard.Random(f"random {seed}")
    return [base | {key: _value(v, draw.random()) for key, v in axes.items()} for _ in range(_count(n))]


def latin(base: Point, axes: dict, n: int, seed: int = 1) -> list[Point]:
    """A Latin hypercube (McKay, Beckman, Conover 1979): every axis is cut into n equal parts, each of which is used
    once, so that n points see n values of every Range and every value of a list equally often (as n allows)."""
    draw, columns = standard.Random(f"latin {seed}"), {}
    for key, v in axes.items():
        parts = [(i + draw.random()) / _count(n) for i in range(n)]
        draw.shuffle(parts)
        columns[key] = [_value(v, part) for part in parts]
    return [base | {key: column[i] for key, column in columns.items()} for i in range(n)]


def _value(axis, part: float):
    if isinstance(axis, Range):
        return axis.at(part)
    if isinstance(axis, (list, tuple)):
        return axis[math.floor(part * len(axis))]
    return axis


def _count(n: int) -> int:
    if not isinstance(n, int) or n < 1:
        raise BadInput(f"a design of {n!r} points: allowed are whole numbers of 1 or more")
    return n


def with_seeds(points: list[Point], n: int) -> list[Point]:
    """Every point that says no seed, n times: seed = 1..n. Points of one seed see the same data in the same order,
    whatever else they differ in, hence differences between settings are paired by seed."""
    out = []
    for point in points:
        free = not any(key == "seed" or key.startswith("seed.") for key in point)
        out += [point | {"seed": s} for s in range(1, n + 1)] if free else [point]
    return out
