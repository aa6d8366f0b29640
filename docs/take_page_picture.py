"""Take `docs/images/page.png`: the server's page in a browser, after a text was typed.

    python docs/take_page_picture.py [--artifact FOLDER] [--backends NAMES] [--text TEXT]

Starts a server of its own on free ports, types the text letter by letter, and ends the server. It
needs a Chromium and the packages of the extra `dev`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "page.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def main() -> None:
    """Start, type, take, end."""
    parser = argparse.ArgumentParser(description="Take docs/images/page.png.")
    parser.add_argument("--artifact", type=Path, help="default: the newest")
    parser.add_argument("--backends", default="lookup,onnx,saved_model")
    parser.add_argument("--text", default="a small domesticated feline that hunts mice")
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        sys.exit(f"error: expected one of {', '.join(BROWSERS)} on the PATH, found none.")
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        command = [sys.executable, "-m", "serving_compare", "serve", "--port", "0"]
        command += ["--backends", options.backends, "--ready-file", str(ready)]
        if options.artifact is not None:
            command += ["--artifact", str(options.artifact)]
        server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if server.poll() is not None:
                    sys.exit(
                        "error: expected a running server, found that it ended. Start it by hand."
                    )
                time.sleep(0.1)
            servers = json.loads(ready.read_text())["servers"]
            take(chromium, servers[0]["url"], len(servers), options.text, options.output)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def take(chromium: str, url: str, columns: int, text: str, output: Path) -> None:
    """Type `text` into the page at `url` and write what is seen as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(url)
        expect(page.locator(".is-ready")).to_have_count(columns)
        page.keyboard.type(text, delay=120)
        expect(page.locator("#summary strong")).to_be_visible()
        page.wait_for_timeout(1000)
        output.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=output, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
