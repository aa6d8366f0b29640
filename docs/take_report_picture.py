"""Take docs/images/report.png: the first screen of the committed reference report's page.

    python docs/take_report_picture.py

Needs a Chromium on the machine and playwright (extra `dev`). Take it again where the reference or
the page has changed; pictures differ by font and browser, so no test compares them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from serving_compare.html_report import HTML_FILE, write_html  # noqa: E402  (needs the path above)

REPORT = ROOT / "docs" / "reports" / "reference" / "report.json"
PICTURE = ROOT / "docs" / "images" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDTH, HEIGHT = 1280, 1180


def main() -> None:
    """Write the picture, or say that there is no browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: expected one of {', '.join(BROWSERS)} on the PATH, found none.")
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        write_html(Path(name), json.loads(REPORT.read_text(encoding="utf-8")))
        running = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = running.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto((Path(name) / HTML_FILE).as_uri())
        page.screenshot(path=PICTURE)
        running.close()


if __name__ == "__main__":
    main()
