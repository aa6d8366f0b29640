"""The evaluation as a page: figures for people, hostile texts shown and not obeyed."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.fields import RunEvaluation
from pipeline.evaluation.measures import measure_split
from pipeline.evaluation.page import format_interval, list_confusions, render_page


@pytest.fixture(scope="module")
def html(evaluation: RunEvaluation) -> str:
    return render_page(evaluation)


def read_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_page_says_what_was_measured(html: str, evaluation: RunEvaluation) -> None:
    text = read_text(html)
    assert f"Top-1 {format_interval(evaluation.splits['validation'].top_1)}" in text
    assert "Texts 1,500 1,500" in text
    assert "divided by a temperature of 0.8123" in text
    assert "test 5.43 % 1.21 % -0.7751 -0.7612" in text


def test_page_obeys_no_text_of_the_data(html: str) -> None:
    assert "<script" not in html
    assert "<b>dog" not in html
    assert "&lt;script&gt;[U+202E]evil" in html
    assert "<bdi>\u05d0owl</bdi>" in html


def test_page_needs_nothing_from_elsewhere(html: str) -> None:
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    assert not re.search(r"url\((?!#)|@import|<link|<script|<img|<iframe", html)


def test_contents_lead_to_every_section_and_tables_have_captions(html: str) -> None:
    targets = re.findall(r'<a href="#([^"]+)"', html)
    assert targets == re.findall(r'<section id="([^"]+)"', html)
    assert html.count("<table") == html.count("<caption") == html.count('class="scroll"') > 4
    assert html.count('role="img"') == 3
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_equal_evaluations_give_equal_pages(html: str, evaluation: RunEvaluation) -> None:
    assert render_page(evaluation) == html


def test_a_run_that_was_not_calibrated_says_so(evaluation: RunEvaluation) -> None:
    plain = dataclasses.replace(
        evaluation, calibration={}, splits={"test": evaluation.splits["test"]}, mistakes=()
    )
    text = read_text(render_page(plain))
    assert "This run was not calibrated" in text
    assert "There is none." in text
    note = {**evaluation.calibration, "note": "Not fitted: 40 validation rows, fewer than 100."}
    noted = read_text(render_page(dataclasses.replace(evaluation, calibration=note)))
    assert "Not fitted: 40 validation rows, fewer than 100." in noted


def test_a_model_without_mistakes_has_no_confusions(evaluation: RunEvaluation) -> None:
    labels = np.array([0, 1, 1])
    split = measure_split(np.eye(2)[labels], labels, label_names=("a", "b"), k=1)
    perfect = dataclasses.replace(evaluation, splits={"test": split}, calibration={})
    assert "No text of the test split got a wrong first answer." in read_text(render_page(perfect))


def test_confusions_are_listed_by_their_texts() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    answers = np.array([0, 1, 1, 2, 0, 1])
    split = measure_split(np.eye(3)[answers], labels, label_names=("a", "b", "c"), k=1)
    assert list_confusions(split) == [
        ("a", "b", 2, 0.5),
        ("a", "c", 1, 0.25),
        ("b", "a", 1, 0.5),
    ]


def test_an_interval_is_written_in_per_cent() -> None:
    interval = Interval(value=0.8008, low=0.79345, high=0.8079)
    assert format_interval(interval) == "80.08 % [79.34, 80.79]"
