"""The C sources themselves: under sanitizers, and what the compiler made of the inner loops."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from export.lookup import build, native

PROGRAM = Path(__file__).parent / "c" / "isa_parity.c"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")

needs_compiler = pytest.mark.skipif(not native.is_available(), reason="no C compiler here")


@pytest.mark.slow
@needs_compiler
def test_every_instruction_set_agrees_under_sanitizers(tmp_path):
    program = tmp_path / "isa_parity"
    subprocess.run(
        [
            *build.find_compiler(),
            "-std=c11",
            "-O0",  # sanitizers make the optimiser take a minute
            *WARNINGS,
            *SANITIZERS,
            f"-I{native.KERNEL_FOLDER}",
            str(PROGRAM),
            str(native.KERNEL_FOLDER / "gatetable.c"),
            "-lm",
            "-o",
            str(program),
        ],
        check=True,
    )
    done = subprocess.run([program, "5"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == native.load_extension().list_isas()
    assert all(re.search(r": 39 models, largest difference ", line) for line in lines)


@needs_compiler
@pytest.mark.skipif(
    os.uname().machine != "x86_64" or shutil.which("objdump") is None,
    reason="reads x86-64 code with objdump",
)
@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512vnni"])
def test_the_sums_of_a_product_stay_in_registers(isa):
    """Spilled accumulators cost half the speed, and gcc spills them at the least provocation."""
    version = subprocess.run(
        [*build.find_compiler(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    if "Free Software Foundation" not in version or not re.search(r"\) 12\.", version):
        pytest.skip("the sources are arranged for gcc 12, this is another compiler")
    listing = subprocess.run(
        [
            "objdump",
            "-d",
            "--no-show-raw-insn",
            f"--disassemble=gt_multiply_one_{isa}",
            str(native.find_extension()),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    products = re.findall(r"vfmadd231ps|vpmaddwd|vpdpwssd", listing)
    assert len(products) > 50
    assert re.findall(r".*(?:[yz]mm.*%rsp|%rsp.*[yz]mm).*", listing) == []
