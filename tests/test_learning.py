"""What separates the mixers: on one budget of steps selection and recall are learned by those that can, not by others:
python tests/test_learning.py"""

import unittest

from program import Case, arrays

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


class Learning(Case):
    def accuracy(self, **keys) -> float:
        results = self.train(**{k.replace(".", "__"): v for k, v in (BUDGET | keys).items()})
        metrics = arrays(results, "eval")
        return float(metrics["metric"][metrics["split"] == b"test"][-1])

    def test_selection(self):
        """Where the symbols stand depends on the input: a time-invariant filter can only copy from fixed places."""
        task = {"task": "selective_copying", "train.steps": 1000}
        task |= {f"selective_copying.{k}": v for k, v in {"length": 16, "tokens": 4, "symbols": 16}.items()}
        self.assertGreater(self.accuracy(variant="mamba", **task), 0.97)
        self.assertLess(self.accuracy(variant="s4d", **task), 0.85)
        self.assertGreater(self.accuracy(variant="s4d", **task, **{"selective_copying.fixed": "true"}), 0.97)

    def test_recall(self):
        """What followed the trigger: looked up by content, which fixed taps cannot."""
        task = {"task": "induction", "train.steps": 400, "induction.length": 32}
        self.assertGreater(self.accuracy(variant="mamba", **task), 0.97)
        self.assertLess(self.accuracy(variant="cnn", **task), 0.5)

    def test_a_fixed_delay(self):
        """The same places in every example: a long filter is enough, a short one is not."""
        task = {"task": "copying", "train.steps": 800, "copying.length": 40, "copying.tokens": 6}
        self.assertGreater(self.accuracy(variant="s4d", **task), 0.97)
        self.assertLess(self.accuracy(variant="cnn", **task), 0.3)

    def test_reversal(self):
        """Every datum at a distance of its own: attention by position finds it, taps that do not reach it cannot."""
        task = {"task": "reverse", "train.steps": 800, "reverse.length": 20, "reverse.tokens": 6}
        self.assertGreater(self.accuracy(variant="attention", **task), 0.97)
        self.assertLess(self.accuracy(variant="cnn", **task), 0.3)


if __name__ == "__main__":
    unittest.main()
