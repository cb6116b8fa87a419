"""Prints each failed test of JUnit files that ctest wrote, under its preset's name, with the end of its output.

python3 scripts/ssmb/failed_tests.py build/openmp/tests.xml ...   needs nothing but Python
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

LINES = 25


def failures(path: Path) -> list[str]:
    """The failed tests of one file, a block of lines each."""
    blocks = []
    for case in ElementTree.parse(path).iter("testcase"):
        failure = case.find("failure")
        if failure is None:
            continue
        output = (case.findtext("system-out") or "").strip().splitlines()
        how = f"{failure.get('message') or 'failed'}, {float(case.get('time', 0)):.0f} s"
        head = f"-- {path.parent.name}: {case.get('name')} ({how})"
        blocks.append("\n   ".join([head, *output[-LINES:]]))
    return blocks


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join(failures(Path(name))))
