"""The width solver: give every point the model.d_model at which it costs as much as another point.

    from ssmb.width import equal
    points = equal("parameters", grid(base, {"variant": ["s4d", "mamba"]}), like=base | {"variant": "attention"})

What is compared is what `ssmbench describe` says of the whole model: "parameters", "flops" (of one training step at
the point's batch and length, forward and backward) or "state_bytes" (carried from step to step, per sequence).
"""

import sys

from . import program
from .program import BadInput, Point
from .words import short

WIDTH = "model.d_model"
WIDEST = 1 << 14


def _flops(described: dict) -> float:
    return sum(op[way]["flops"] for op in described["ops"] for way in ("forward", "backward"))


MEASURES = {
    "parameters": lambda d: float(d["parameter_count"]),
    "flops": _flops,
    "state_bytes": lambda d: float("nan") if d["state_bytes_per_sequence"] is None else d["state_bytes_per_sequence"],
}


class Solver:
    """One measure of one point as a function of its width, asked of the program and remembered."""

    def __init__(self, measure: str, point: Point, step: int = 1):
        if measure not in MEASURES:
            raise BadInput(f"equal: unknown measure {measure!r}; known: {', '.join(MEASURES)}")
        if step < 1:
            raise BadInput(f"equal: step = {step}: allowed is 1 or more")
        self.measure, self.point, self.step, self.known, self.refusal = measure, point, step, {}, ""

    def at(self, width: int) -> float | None:
        """None where the program refuses this width (heads that do not divide it)."""
        if width not in self.known:
            try:
                described = program.describe(self.point | {WIDTH: width})
            except BadInput as e:
                self.known[width], self.refusal = None, str(e)
                return None
            self.known[width] = MEASURES[self.measure](described)
            if self.known[width] != self.known[width]:
                raise BadInput(f"equal: no {self.measure}: {described['streams']}: {self.point}")
        return self.known[width]

    def solve(self, target: float) -> tuple[int, float]:
        """(width, value): the multiple of step whose value is nearest to target. The measures grow with the width."""
        low, high = 0, 1  # in steps; value(low) < target <= value(high)
        while self._from(high)[1] < target:
            low, high = high, 2 * high
            if high * self.step > WIDEST:
                raise BadInput(f"equal: {self.measure} of {target:.0f} needs a width above {WIDEST}: {self.point}")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._from(middle)[1] < target else (low, middle)
        near = [self._from(high), *([self._from(low)] if low else [])]
        return min(near, key=lambda found: abs(found[1] - target))

    def _from(self, steps: int) -> tuple[int, float]:
        """The first width of so many steps or more that the program accepts, with its value."""
        for width in range(steps * self.step, (steps + 64) * self.step, self.step):
            value = self.at(width)
            if value is not None:
                return width, value
        raise BadInput(f"equal: no width from {steps * self.step} to {width} is possible: {self.refusal}")


def equal(measure: str, points: list[Point], like: Point | float, step: int = 8) -> list[Point]:
    """The points with model.d_model set to the multiple of `step` that brings `measure` nearest to that of the point
    `like` (or to a number). Says on stderr what it found and how far off it is. Seeds do not matter and are asked once.
    """
    target = like
    if isinstance(like, dict):
        solver = Solver(measure, like)
        target = solver.at(int(like.get(WIDTH, 64)))
        if target is None:
            raise BadInput(f"equal: {solver.refusal}")
    found, out = {}, []
    for point in points:
        bare = {k: v for k, v in point.items() if k != WIDTH and not k.startswith("seed")}
        name = str(sorted(bare.items()))
        if name not in found:
            found[name] = width, value = Solver(measure, bare, step).solve(target)
            who = point.get("variant", point.get("layers"))
            off = 100 * (value / target - 1)
            print(
                f"equal {measure}: {who} {WIDTH} = {width}: {short(value)}, {off:+.1f} % of {short(target)}",
                file=sys.stderr,
            )
        out.append(point | {WIDTH: found[name][0]})
    return out
