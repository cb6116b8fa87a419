"""What separates the mixers: for each task one model that must learn it, and one that must not, on the same small
budget of steps: python tests/test_learning.py [Learning.test_TASK ...]

The models have two layers of 32 channels, unless a pair says otherwise, and one seed; the bounds leave room for others.
Tasks that need more have their budget and the milestone expected of it in scripts/presets:
test_every_task_is_here_or_in_a_preset."""

import json
import unittest
from dataclasses import dataclass, field

from program import Case, arrays

from ssmb import presets

BUDGET = {
    "depth": 2,
    "model.d_model": 32,
    "train.batch": 32,
    "train.lr": 0.005,
    "train.eval_every": 10_000,
    "train.eval_examples": 32,
    "train.test_examples": 500,
    "seed": 1,
    "induction.length": None,
}


@dataclass(frozen=True)
class Model:
    """A variant, keys of its own, and the score on the test split that it reaches or stays beyond."""

    variant: str
    score: float
    keys: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """`task`: its knobs. Scores are accuracies, or errors (MSE, bits per character) where `lower` is better."""

    steps: int
    task: dict
    learns: Model
    fails: Model
    keys: dict = field(default_factory=dict)
    lower: bool = False


NO_ORDER = {"attention.positions": "none"}
ONE_POSITION = {"cnn.kernel": 1}

PAIRS = {
    # A time-invariant filter can only copy from fixed places.
    "selective_copying": Pair(
        1000, {"length": 16, "tokens": 4, "symbols": 16}, Model("mamba", 0.97), Model("s4d", 0.85)
    ),
    # The same places in every example: a long filter is enough, a short one is not.
    "copying": Pair(800, {"length": 40, "tokens": 6}, Model("s4d", 0.97), Model("cnn", 0.3)),
    # Every datum at a distance of its own: attention by position finds it, taps that do not reach it cannot.
    "reverse": Pair(800, {"length": 20, "tokens": 6}, Model("attention", 0.97), Model("cnn", 0.3)),
    # What followed the trigger, or the key, is looked up by content.
    "induction": Pair(400, {"length": 32}, Model("mamba", 0.97), Model("cnn", 0.5)),
    "associative_recall": Pair(600, {"length": 20, "symbols": 10}, Model("attention", 0.97), Model("s4d", 0.6)),
    "mqar": Pair(600, {"length": 32, "pairs": 4, "vocabulary": 64}, Model("attention", 0.97), Model("s4d", 0.5)),
    "mad_recall": Pair(600, {"length": 32, "vocabulary": 16}, Model("attention", 0.97), Model("s4d", 0.6)),
    "mad_noisy_recall": Pair(600, {"length": 32, "vocabulary": 32}, Model("deltanet", 0.97), Model("s4d", 0.6)),
    "mad_fuzzy_recall": Pair(1000, {"length": 32, "vocabulary": 16}, Model("deltanet", 0.85), Model("s4d", 0.6)),
    "mad_selective_copying": Pair(
        1200, {"length": 48, "tokens": 8, "vocabulary": 16}, Model("attention", 0.93), Model("s4d", 0.82)
    ),
    "needle": Pair(800, {"length": 48, "records": 1}, Model("attention", 0.9), Model("cnn", 0.3)),
    # The key stands one position before its value.
    "mad_memorisation": Pair(
        600, {"length": 32, "vocabulary": 64}, Model("cnn", 0.97), Model("cnn", 0.3, ONE_POSITION)
    ),
    # What the arguments are worth, not only which operator stands at the root.
    "listops": Pair(
        1500, {"depth": 3, "min_length": 20, "max_length": 40}, Model("gru", 0.47), Model("cnn", 0.42, ONE_POSITION)
    ),
    # A bit that the input flips: no constant multiplier does that.
    "parity": Pair(400, {"length": 40, "min_length": 3}, Model("gru", 0.99), Model("s4d", 0.8)),
    # Products in a group that is not solvable, which one layer that cannot fold its state back does not follow.
    "word_problem": Pair(
        700,
        {"length": 4},
        Model("lstm", 0.9),
        Model("s4d", 0.78),
        {"depth": 1, "model.d_model": 256, "train.batch": 256},
    ),
    # Pictures that fade into noise for stretches of time: who remembers the swing, and who sees one picture.
    "pendulum": Pair(400, {}, Model("gru", 0.04), Model("cnn", 0.09, ONE_POSITION), lower=True),
    # Two numbers that stand anywhere: further apart than the taps reach.
    "adding": Pair(400, {"length": 32}, Model("gru", 0.01), Model("cnn", 0.12), lower=True),
    # By the distance in time, which attention without positions does not see.
    "delay": Pair(
        300, {"length": 64, "lag": 16, "cutoff": 0.5}, Model("s4d", 0.02), Model("attention", 0.1, NO_ORDER), lower=True
    ),
    "reconstruct": Pair(
        400, {"length": 64, "window": 16}, Model("s4d", 0.02), Model("attention", 0.08, NO_ORDER), lower=True
    ),
    # Words against single letters; the whole document against its last words.
    "polar_text": Pair(
        600,
        {"words": 16, "length": 128, "polar": 0.3, "purity": 1, "negators": 0},
        Model("cnn", 0.9),
        Model("cnn", 0.78, ONE_POSITION),
    ),
    "topic_pairs": Pair(
        400,
        {"words": 24, "alpha": 0.3, "gamma": 0, "topics": 4, "background": 32, "topic_words": 4},
        Model("s4d", 0.95),
        Model("cnn", 0.88, {"model.pooling": "last"}),
    ),
    # One name somewhere in each text: whole names against the letters of all words together.
    "shared_identifier": Pair(
        1800, {"words": 6, "identifiers": 1}, Model("gru", 0.9), Model("cnn", 0.83, ONE_POSITION)
    ),
    "recall_text": Pair(600, {"length": 128}, Model("s4d", 3.1), Model("cnn", 3.3, ONE_POSITION), lower=True),
    # Shapes against the sum over patches.
    "strokes": Pair(
        500, {"jitter": 1}, Model("s4d", 0.75), Model("cnn", 0.5, ONE_POSITION), {"model.frontend": "patch:7"}
    ),
    "gabor": Pair(
        600, {"noise": 0.1}, Model("s4d", 0.85), Model("cnn", 0.6, ONE_POSITION), {"model.frontend": "patch:8"}
    ),
}


class Learning(Case):
    def score(self, task: str, model: Model) -> float:
        pair = PAIRS[task]
        keys = BUDGET | {"task": task, "train.steps": pair.steps, "variant": model.variant}
        keys |= {f"{task}.{knob}": value for knob, value in pair.task.items()} | pair.keys | model.keys
        metrics = arrays(self.train(**{k.replace(".", "__"): v for k, v in keys.items()}), "eval")
        return float(metrics["metric"][metrics["split"] == b"test"][-1])

    def check(self, task: str) -> None:
        pair = PAIRS[task]
        learns, fails = (self.score(task, model) for model in (pair.learns, pair.fails))
        print(f"{task}: {pair.learns.variant} {learns:.4g}, {pair.fails.variant} {fails:.4g}", flush=True)
        better = self.assertLess if pair.lower else self.assertGreater
        better(learns, pair.learns.score, f"{task}: {pair.learns.variant} has to learn it")
        better(pair.fails.score, fails, f"{task}: {pair.fails.variant} was not to learn it")

    def test_every_task_is_here_or_in_a_preset(self):
        tasks = {t["name"] for t in json.loads(self.good("list", "--json"))["tasks"]}
        said = PAIRS.keys() | {p.keys["task"] for p in presets.load().values()}
        self.assertEqual(tasks - said, set())

    def test_copying_from_fixed_places(self):
        """What a time-invariant filter lacks in selective copying is the place alone."""
        pair = PAIRS["selective_copying"]
        fixed = Model("s4d", 0.97, {"selective_copying.fixed": "true"})
        self.assertGreater(self.score("selective_copying", fixed), pair.learns.score)


for name in PAIRS:
    setattr(Learning, f"test_{name}", lambda self, name=name: self.check(name))


if __name__ == "__main__":
    unittest.main()
