"""What scripts/test says last of tests that failed."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "ssmb" / "failed_tests.py"
XML = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="t" tests="3" failures="2">
  <testcase name="Fine.one" time="0.1" status="run"><system-out>all is well</system-out></testcase>
  <testcase name="Bad.two" time="1.6" status="fail"><failure message=""/><system-out>a &lt; b
expected c</system-out></testcase>
  <testcase name="Slow.three" time="900" status="fail"><failure message="Timeout"/>
    <system-out>{long}</system-out></testcase>
</testsuite>
"""


class FailedTests(unittest.TestCase):
    def said(self, xml: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "openmp" / "tests.xml"
            path.parent.mkdir()
            path.write_text(xml)
            return subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=True).stdout

    def test_names_and_the_end_of_what_they_printed(self):
        lines = self.said(XML.format(long="\n".join(f"line {i}" for i in range(100)))).splitlines()
        self.assertEqual(lines[:3], ["-- openmp: Bad.two (failed, 2 s)", "   a < b", "   expected c"])
        self.assertEqual(lines[3:5], ["-- openmp: Slow.three (Timeout, 900 s)", "   line 75"])
        self.assertEqual(lines[-1], "   line 99")

    def test_a_test_that_printed_nothing(self):
        xml = '<testsuite><testcase name="Mute" time="0"><failure message=""/></testcase></testsuite>'
        self.assertEqual(self.said(xml), "-- openmp: Mute (failed, 0 s)\n")


if __name__ == "__main__":
    unittest.main()
