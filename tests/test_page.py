"""The report in a real browser, when Debian's Chromium is installed: its tables sort, nothing is fetched, nothing
sticks out sideways: python tests/test_page.py"""

import html
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from stubbed import Case

CHROMIUM = shutil.which("chromium")
# Clicks through the first table and says what it saw in an attribute of the body.
PROBE = """<script>
const seen = {};
const table = document.querySelector("table.sortable");
const names = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent.trim());
const button = label => [...table.querySelectorAll("button")].find(b => b.textContent === label);
seen.first = names();
button("variant").click(); seen.up = names();
button("variant").click(); seen.down = names();
seen.sort = button("variant").parentElement.getAttribute("aria-sort");
button("tokens per second").click();
seen.marked = table.querySelectorAll("th[aria-sort]").length;
seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
seen.figures = document.querySelectorAll("figure svg").length;
seen.links = [...document.querySelectorAll("nav a")].map(a => document.querySelector(a.getAttribute("href")) !== null);
seen.fetched = performance.getEntriesByType("resource").length;
document.body.dataset.seen = JSON.stringify(seen);
</script>"""


@unittest.skipUnless(CHROMIUM, "chromium is not installed: scripts/bootstrap --browser does")
class Page(Case):
    def browse(self, page: Path, width: int) -> dict:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += [
            f"--user-data-dir={self.tmp / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            f"file://{page}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        return json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', done.stdout).group(1)))

    def test_report_in_chromium(self):
        self.sweep('grid(base, {"variant": ["s4d", "mamba", "brand_new"], "seed": [1, 2]})', "--workers", 2)
        page = self.tmp / "page.html"
        made = self.script("report", "--from", self.tmp / "out", "--against", self.tmp / "out", "--out", page)
        self.assertEqual(made.returncode, 0, made.stderr)
        page.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
        for width in (1200, 500):
            seen = self.browse(page, width)
            self.assertEqual(seen["first"], ["brand_new", "mamba", "s4d"])  # best first
            self.assertEqual(seen["up"], sorted(seen["first"]))
            self.assertEqual(seen["down"], sorted(seen["first"], reverse=True))
            self.assertEqual((seen["sort"], seen["marked"]), ("descending", 1))
            self.assertLessEqual(seen["wide"], 0, f"at {width} pixels the page scrolls sideways")
            self.assertGreater(seen["figures"], 5)
            self.assertTrue(seen["links"] and all(seen["links"]), seen["links"])
            self.assertEqual(seen["fetched"], 0)


if __name__ == "__main__":
    if not CHROMIUM:
        print("chromium is not installed: scripts/bootstrap --browser does")
        sys.exit(77)  # skipped, for ctest
    unittest.main()
