"""The SHA-256 in C is the one of Python, at every length that ends somewhere else in a block."""

from __future__ import annotations

import hashlib
import random

import pytest

from tests.export.lookup.c_programs import COMPILER, DRIVER, WARNINGS, compile_c, run_c

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def test_sums_are_those_of_hashlib(tmp_path):
    program = compile_c(
        tmp_path / "sha256_lines", DRIVER.with_name("sha256_lines.c"), options=WARNINGS
    )
    text = "".join(random.Random(1).choices("abc 고양이", k=70_000))
    data = text.encode()
    lengths = [*range(200), 1000, 4096, 65_535, 65_536, 100_000]
    done = run_c(program, *lengths, text=text)
    assert done.stdout.split() == [hashlib.sha256(data[:length]).hexdigest() for length in lengths]


def test_the_sum_of_the_standard_s_own_example(tmp_path):
    program = compile_c(tmp_path / "sha256_lines", DRIVER.with_name("sha256_lines.c"))
    assert run_c(program, 3, text="abc").stdout == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
    )
