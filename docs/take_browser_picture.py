"""Take `docs/images/browser.png`: the page of `docs/loaders/browser` after a text was typed.

    python docs/take_browser_picture.py ARTIFACT

It needs a Chromium, the packages of the extra `dev`, and `npm ci` in `docs/loaders/node`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "browser.png"
TEXT = "a small domesticated feline that hunts mice"


def main(artifact: str) -> None:
    """Serve, type, take, end."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: expected chromium or google-chrome on the PATH, found none.")
    command = [sys.executable, ROOT / "docs" / "loaders" / "browser" / "serve.py", artifact]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
    ):
        try:
            assert server.stdout is not None
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 720, "height": 440}, device_scale_factor=2)
            page.goto(server.stdout.readline().strip())
            status = page.get_by_role("status")
            expect(status).to_contain_text("in this browser", timeout=60_000)
            page.get_by_label("Text", exact=True).fill("")
            page.get_by_label("Text", exact=True).press_sequentially(TEXT, delay=20)
            page.wait_for_timeout(500)
            page.screenshot(path=PICTURE)
            browser.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} ARTIFACT")
    main(sys.argv[1])
