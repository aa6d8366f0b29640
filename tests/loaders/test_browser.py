"""The page of docs/loaders/browser in a headless Chromium, onnxruntime and tokenizer in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.loaders.probes import LOADERS, read_probes
from tests.serving_compare.server.test_page_browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(artifact: Path) -> Iterator[str]:
    if not (LOADERS / "node" / "node_modules").is_dir():
        pytest.skip("no packages for the page: run `npm ci` in docs/loaders/node")
    command = [sys.executable, "-I", LOADERS / "browser" / "serve.py", artifact]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def page(url: str) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_context().new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        expect(page.get_by_role("status")).to_contain_text("in this browser", timeout=60_000)
        yield page
        browser.close()
    assert complaints == []


def test_the_page_gives_the_golden_labels(page: Page, artifact: Path) -> None:
    probes = read_probes(artifact)
    texts = [row["text"] for row in probes.rows]
    answers = page.evaluate(
        "async (texts) => { const all = []; for (const text of texts) "
        "all.push(await classify(text)); return all; }",
        texts,
    )
    probes.check([[label for label, _ in answer] for answer in answers])
    for row, answer in zip(probes.rows, answers, strict=True):
        best = max(row["probabilities"])
        assert abs(answer[0][1] - best) < 1e-5, row["text"]


def test_typing_shows_labels_best_first(page: Page, artifact: Path) -> None:
    row = max(read_probes(artifact).rows, key=lambda row: max(row["probabilities"]))
    page.get_by_label("Text", exact=True).fill(row["text"])
    best = max(row["probabilities"])
    items = page.get_by_role("listitem")
    expect(items).to_have_count(3)
    expect(items.first).to_contain_text(f"{100 * best:.1f} %")
    label = read_probes(artifact).labels[row["probabilities"].index(best)]
    expect(items.first).to_contain_text(label)


def test_an_artifact_that_is_not_there_is_said_in_the_page(page: Page, url: str) -> None:
    other = page.context.new_page()
    other.route("**/artifact/labels.json", lambda route: route.fulfill(status=404))
    other.goto(url)
    expect(other.get_by_role("status")).to_have_text(
        "The model did not load. labels.json: expected a file, found HTTP 404."
    )
    other.close()


@pytest.mark.parametrize("path", ["artifact/", "node_modules/", "%2e%2e/node/load.mjs"])
def test_the_small_server_serves_no_listing_and_nothing_outside(url: str, path: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(url + path, timeout=10)
    caught.value.close()
    assert caught.value.code == 404
