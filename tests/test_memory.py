"""Planned against measured memory, seen from outside, for every variant: python tests/test_memory.py"""

import json
import unittest

import h5py
from program import Case

SHARE = 0.05  # of the plan
AROUND = 12 << 20  # batches made ahead, OpenBLAS, FFTW, the record, thread stacks


class Memory(Case):
    def test_plan_is_what_the_process_takes(self):
        size = {"train__batch": 8, "induction__length": 512, "model__d_model": 64, "depth": 4, "train__steps": 2}
        for variant in json.loads(self.good("list", "--json"))["variants"]:
            with self.subTest(variant=variant["name"]):
                results = self.train(variant=variant["name"], **size, train__test_examples=16)
                with h5py.File(results) as f:
                    memory = {k: int(v) for k, v in f["memory"].attrs.items()}
                self.assertEqual(memory["allocated"], memory["planned"])
                taken = memory["rss"] - memory["rss_before"]
                self.assertGreater(memory["planned"], AROUND)
                self.assertLess(abs(taken - memory["planned"]), SHARE * memory["planned"] + AROUND, memory)


if __name__ == "__main__":
    unittest.main()
