"""The page in a real browser, against a real server: typing, keys, failures, eyes and ears."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.serving_compare.server.running import PREDICT, Running, run_server

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
BACKENDS = ("lookup", "onnx", "null")
TEXT = "stone dog of river"
AUDIT = (Path(__file__).parent / "page_audit.js").read_text(encoding="utf-8")
"""What an accessibility checker would say: contrast as painted, names, sizes, reach, structure."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def server(golden_server: Running) -> Running:
    return golden_server


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says; tests that break nothing expect none."""
    return []


def open_page(
    browser: Browser, server: Running, complaints: list[str] | None = None, **context: Any
) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(15_000)
    if complaints is not None:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda err: complaints.append(str(err)))
        page.on("requestfailed", lambda request: _note_failure(complaints, request))
    page.goto(server.urls["lookup"] + "/")
    for backend in BACKENDS:
        expect(column(page, backend)).to_have_class(is_("ready"))
    return page


def _note_failure(complaints: list[str], request: Any) -> None:
    if request.failure != "net::ERR_ABORTED":  # a newer letter takes an open question back
        complaints.append(f"{request.url}: {request.failure}")


def column(page: Page, backend: str) -> Any:
    return page.locator(f".backend-{backend}")


def is_(state: str) -> Any:
    return re.compile(rf"\bis-{state}\b")


def expect_labels(page: Page, server: Running, backend: str, text: str, k: int = 2) -> None:
    predicted = server.post(backend, PREDICT, {"instances": text, "k": k})["predictions"][0]
    bars = column(page, backend).locator(".bars bdi")
    expect(bars).to_have_text([best["label"] for best in predicted])
    shares = column(page, backend).locator(".share")
    expect(shares).to_have_text([f"{best['probability'] * 100:.1f} %" for best in predicted])


def test_typing_shows_what_predict_says_in_every_column(
    browser: Browser, server: Running, complaints: list[str]
) -> None:
    page = open_page(browser, server, complaints)
    page.keyboard.type(TEXT, delay=15)  # the field has the focus from the start
    for backend in BACKENDS:
        expect_labels(page, server, backend, TEXT)
        expect(column(page, backend).locator(".state-text")).to_have_text("version 1")
        for place in (".model-time", ".trip-time"):
            expect(column(page, backend).locator(place)).to_contain_text("s")
        pieces = server.post(backend, PREDICT, {"instances": TEXT, "k": 1, "return_tokens": True})[
            "tokens"
        ][0]
        expect(column(page, backend).locator(".tokens li")).to_have_text(
            [piece.replace("▁", "·") for piece in pieces]
        )
    expect(column(page, "lookup").locator(".steps")).to_contain_text("reused")
    best = server.post("lookup", PREDICT, {"instances": TEXT, "k": 1})["predictions"][0][0]
    expect(page.locator("#summary")).to_have_text(
        f"{best['label']} {best['probability'] * 100:.1f} %, both agree"
    )
    assert complaints == []


def test_the_keyboard_alone_reaches_and_does_everything(
    browser: Browser, server: Running, complaints: list[str]
) -> None:
    page = open_page(browser, server, complaints)
    focused = "document.activeElement.id || document.activeElement.textContent"
    assert page.evaluate(focused) == "text"
    page.keyboard.type("dog")
    order = []
    for _ in range(page.locator("#examples button").count() + 4):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    examples = page.locator("#examples button").all_inner_texts()
    assert order == ["clear", *examples, "k", "show-tokens", "use-stream"]
    page.keyboard.press("/")
    assert page.evaluate(focused) == "text"
    page.keyboard.press("Alt+1")
    expect(page.locator("#text")).to_have_value(examples[0])
    expect_labels(page, server, "onnx", examples[0])
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_have_value("")
    expect(column(page, "onnx").locator(".bars li")).to_have_count(0)
    expect(column(page, "onnx").locator(".idle")).to_be_visible()
    assert page.evaluate(focused) == "text"
    assert complaints == []


def test_without_the_stream_lookup_is_asked_by_post(browser: Browser, server: Running) -> None:
    page = open_page(browser, server)
    opened: list[str] = []
    page.on("request", lambda request: opened.append(f"{request.method} {request.url}"))
    page.uncheck("#use-stream")
    page.fill("#text", TEXT)
    expect_labels(page, server, "lookup", TEXT)
    expect(column(page, "lookup").locator(".steps")).to_have_text("")
    assert f"POST {server.urls['lookup']}{PREDICT}" in opened


def test_a_backend_that_dies_says_so_and_comes_back_by_itself(
    browser: Browser, server: Running
) -> None:
    page = open_page(browser, server)
    page.route(server.urls["onnx"] + "/**", lambda route: route.abort())
    page.fill("#text", TEXT)
    expect(column(page, "onnx")).to_have_class(is_("down"))
    expect(column(page, "onnx").locator(".state-text")).to_have_text("down, trying again")
    expect(page.locator("#summary")).to_contain_text("Down: onnx.")
    expect_labels(page, server, "lookup", TEXT)  # the others answer as ever
    page.unroute(server.urls["onnx"] + "/**")
    expect(column(page, "onnx")).to_have_class(is_("ready"))
    expect_labels(page, server, "onnx", TEXT)
    expect(page.locator("#summary")).not_to_contain_text("Down")


def test_a_killed_worker_is_asked_again_when_its_successor_stands(
    browser: Browser, tmp_path: Path
) -> None:
    with run_server(tmp_path, backends="lookup,null") as server:
        page = browser.new_page()
        page.goto(server.urls["lookup"] + "/")
        page.fill("#text", "stone")
        expect_labels(page, server, "lookup", "stone")
        expected = server.post("lookup", PREDICT, {"instances": TEXT, "k": 2})["predictions"][0]
        workers = json.loads((tmp_path / "ready.json").read_text())["servers"][0]["workers"]
        os.kill(workers[0], signal.SIGKILL)
        page.fill("#text", TEXT)
        expect(column(page, "lookup").locator(".share")).to_have_text(
            [f"{best['probability'] * 100:.1f} %" for best in expected], timeout=20_000
        )
        expect(column(page, "lookup")).to_have_class(is_("ready"))
        steps = column(page, "lookup").locator(".steps")
        for number in range(40):  # the stream is opened again, sooner or later
            page.fill("#text", f"{TEXT} {number}")
            page.wait_for_timeout(250)
            if "reused" in steps.inner_text():
                break
        expect(steps).to_contain_text("reused")


def test_an_answer_that_was_overtaken_is_not_shown(browser: Browser, server: Running) -> None:
    page = open_page(browser, server)
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if not held:
            held.append(route)
        else:
            route.continue_()

    page.route(server.urls["onnx"] + PREDICT, hold_first)
    page.fill("#text", "dog")
    page.wait_for_timeout(200)
    assert len(held) == 1
    page.fill("#text", TEXT)
    expect_labels(page, server, "onnx", TEXT)
    late = {"version": "1", "predictions": [[{"label": "late", "probability": 1.0}]]}
    held[0].fulfill(json=late)
    page.wait_for_timeout(200)
    expect_labels(page, server, "onnx", TEXT)


def test_a_full_queue_is_told_and_asked_again(browser: Browser, server: Running) -> None:
    page = open_page(browser, server)
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route)
            route.fulfill(
                status=429,
                headers={
                    "Access-Control-Allow-Origin": server.urls["lookup"],
                    "Access-Control-Expose-Headers": "Retry-After",
                    "Retry-After": "1",
                },
                json={"error": {"code": "queue_full", "message": "The queue is full."}},
            )

    page.route(server.urls["onnx"] + PREDICT, refuse_once)
    page.fill("#text", TEXT)
    expect(column(page, "onnx").locator(".state-text")).to_have_text("The queue is full.")
    expect(column(page, "onnx")).to_have_class(is_("ready"))
    expect_labels(page, server, "onnx", TEXT)


def test_texts_and_labels_are_shown_as_text_whatever_they_hold(
    browser: Browser, server: Running, complaints: list[str]
) -> None:
    page = open_page(browser, server, complaints)
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    answer = {
        "version": attack,
        "predictions": [[{"label": attack, "probability": 1.0}]],
        "tokens": [[attack, 7]],
    }
    allowed = {"Access-Control-Allow-Origin": server.urls["lookup"]}
    page.route(
        server.urls["onnx"] + PREDICT, lambda route: route.fulfill(json=answer, headers=allowed)
    )
    page.fill("#text", attack)
    expect(column(page, "onnx").locator(".bars bdi")).to_have_text(attack)
    expect(column(page, "onnx").locator(".tokens li").first).to_have_text(attack)
    expect_labels(page, server, "lookup", attack)
    assert page.locator("#columns img, #columns script, #summary img").count() == 0
    assert complaints == []


def test_the_audit_itself_finds_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(
        "<p style='color: #999; background: #fff'>pale</p><h3 id=a>deep</h3><svg id=a></svg>"
        "<button style='width: 9px; height: 9px; padding: 0' tabindex=-1></button>"
    )
    problems = page.evaluate(AUDIT)
    for problem in ("contrast 2.85", "no name", "smaller than 24", "out of reach", "an id twice"):
        assert any(found.startswith(problem) for found in problems), problem
    assert {"a picture without words", "not one h1", "no main", "html without lang"} <= set(
        problems
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_eyes_ears_and_fingers_find_what_they_need(
    browser: Browser, server: Running, scheme: Any
) -> None:
    page = open_page(browser, server, color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate(AUDIT) == []
    page.keyboard.type(TEXT)
    expect_labels(page, server, "onnx", TEXT)
    page.route(server.urls["null"] + "/**", lambda route: route.abort())
    page.keyboard.type(" cat")
    expect(column(page, "null")).to_have_class(is_("down"))
    expect(page.locator("#summary")).to_contain_text("Down: null.")
    assert page.evaluate(AUDIT) == []
    moving = (
        "[...document.querySelectorAll('*')].filter("
        "(e) => !['0s', ''].includes(getComputedStyle(e).transitionDuration)).length"
    )
    assert page.evaluate(moving) == 0


@pytest.mark.parametrize("width", [320, 390, 640, 1280])
def test_nothing_has_to_be_scrolled_sideways(browser: Browser, server: Running, width: int) -> None:
    """Down to 320 CSS pixels, which is 1280 at 400 % zoom; 640 is 200 %."""
    page = open_page(browser, server, viewport={"width": width, "height": 800})
    page.fill("#text", "pneumonoultramicroscopicsilicovolcanoconiosis" * 4)
    expect(column(page, "onnx").locator(".bars li")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
