"""Lookup folders damaged in every way we could think of, and a C program that must survive them.

    python -m tests.export.lookup.hostile --count 10000

damages small sound folders, opens each in a build of gatetable.c with AddressSanitizer and
UndefinedBehaviorSanitizer, with every instruction set of the machine, and prints how many were
refused with which status and how many still gave answers. Each must be one or the other; a crash,
a hang, an empty message, a probability that is not finite or a sum that is not 1 ends the run with
exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.lookup import write_lookup
from export.lookup.word_arrays import WordArrays
from tests.export.lookup.c_programs import DRIVER, KERNEL, compile_c
from tests.export.lookup.conftest import make_compressed, make_content, make_raw_model, make_words
from tests.export.lookup.damages import FILE_DAMAGES, Damage
from tests.export.lookup.json_damages import JSON_DAMAGES
from tests.export.lookup.seals import make_older

SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MAP_ON_HEAP = ("-Dmmap=map_on_heap", "-Dmunmap=free_from_heap")
"""See c/heap_map.c."""
ISAS = ("avx512vnni", "avx512", "avx2", "portable")
DAMAGES = (*FILE_DAMAGES, *JSON_DAMAGES)
BATCH = 200
"""Folders given to one process: few starts, and little on disk at a time."""


def write_sound_folders(target: Path) -> list[Path]:
    """Write a few small folders that differ in everything a folder can differ in.

    Args:
        target: An existing folder to write them in.

    Returns:
        Their paths.
    """
    table = make_words({b"a": [3], b"cat": [2, 5], b"dog": [], "고양이".encode(): [7, 29, 1]})
    kinds: list[tuple[dict[str, Any], str, str, WordArrays | None]] = [
        ({"bidirectional": False, "pooling": "last"}, "float32", "float32", None),
        ({"layers": 2}, "float32", "float32", table),
        ({"layers": 2, "bidirectional": False, "pooling": "mean"}, "int16", "int16", None),
        ({"units": 17, "num_classes": 9}, "int8", "int8", table),
        ({"relu": False, "pooling": "mean"}, "float16", "int16", table),
        ({"pooling": "last"}, "float32", "float32", None),
        ({"units": 5}, "float32", "float32", None),
    ]
    versions = {len(kinds) - 2: 1, len(kinds) - 1: 2}
    """Which of them are of an older version of the format."""
    folders = []
    for number, (changes, table_dtype, recurrent_dtype, word_arrays) in enumerate(kinds):
        model = make_raw_model(seed=number, **changes)
        content = make_content(model) | make_compressed(model, table_dtype, recurrent_dtype)
        if not content["config"].is_exact:
            content["tolerance"] = 0.1
        folder = target / f"sound_{number}"
        write_lookup(folder, **content, words=word_arrays)
        if number in versions:
            path = folder / "manifest.json"
            fields = make_older(json.loads(path.read_text()), versions[number])
            path.write_text(json.dumps(fields))
        shutil.rmtree(folder / "runtime")  # code; no reader looks at it
        folders.append(folder)
    return folders


def make_damaged(
    sound: Path, target: Path, rng: random.Random, damages: Sequence[Damage] = DAMAGES
) -> str:
    """Copy a sound folder and damage the copy.

    Args:
        sound: The sound folder, unchanged.
        target: Where to; must not exist.
        rng: Chooses the damage and what it does.
        damages: To choose from.

    Returns:
        What was done.
    """
    target.mkdir()
    for path in sound.iterdir():
        os.link(path, target / path.name)
    return rng.choice(damages)(target, rng)


# ---- the program that opens them


def has_sanitizers(target: Path) -> bool:
    """Tell whether the compiler can build with both sanitizers and the result runs here."""
    (target / "empty.c").write_text("int main(void) { return 0; }\n")
    try:
        program = compile_c(target / "empty", target / "empty.c", options=SANITIZE)
        return subprocess.run([program], capture_output=True).returncode == 0
    except subprocess.CalledProcessError:
        return False


def build_driver(target: Path, options: Sequence[str]) -> Path:
    """Compile the driver and gatetable.c with both sanitizers and return the program."""
    sources = (DRIVER, DRIVER.with_name("heap_map.c"), KERNEL / "gatetable.c")
    program = target / "open_folders"
    return compile_c(program, *sources, options=(*SANITIZE, *MAP_ON_HEAP, *options))


def list_isas(program: Path, sound: Path) -> list[str]:
    """Return the instruction sets that this machine can run, best first."""
    return [isa for isa in ISAS if open_folders(program, [sound], isa) == ["0 ok"]]


def open_folders(program: Path, folders: Sequence[Path], isa: str) -> list[str]:
    """Open folders in one process and return its line for each, like "0 ok" or "3 message".

    Raises:
        AssertionError: The process crashed, hung or found a wrong answer.
    """
    try:
        done = subprocess.run(
            [program],
            input="".join(f"{folder}\n" for folder in folders).encode(),
            capture_output=True,
            timeout=300,
            env={**os.environ, "GATETABLE_ISA": isa},
        )
    except subprocess.TimeoutExpired as err:
        raise AssertionError(f"hung after {(err.stdout or b'')[-500:]!r}") from err
    lines = done.stdout.decode().splitlines()
    if done.returncode or done.stderr or len(lines) != len(folders):
        raise AssertionError(
            f"exit code {done.returncode} at {folders[min(len(lines), len(folders) - 1)]} with "
            f"{isa}, {len(lines)} of {len(folders)} opened: {lines[-1:]}\n"
            f"{done.stderr.decode(errors='replace')[:8000]}"
        )
    return lines


def attack(program: Path, work: Path, count: int, seed: int, isas: Sequence[str]) -> Counter[str]:
    """Damage `count` folders and open each with every instruction set.

    Args:
        program: From `build_driver`.
        work: A folder to make and work in.
        count: Number of damaged folders.
        seed: Same seed, same folders.
        isas: Names for GATETABLE_ISA.

    Returns:
        How often each status came, by its number as text.

    Raises:
        AssertionError: See `open_folders`; the folder is left in `work`.
    """
    work.mkdir()
    sound = write_sound_folders(work)
    for isa in isas:
        lines = open_folders(program, sound, isa)
        assert [line.split()[0] for line in lines] == ["0"] * len(sound), lines
    statuses: Counter[str] = Counter()
    for first in range(0, count, BATCH):
        batch = work / f"batch_{first}"
        batch.mkdir()
        folders = []
        for number in range(first, min(first + BATCH, count)):
            rng = random.Random(f"{seed} {number}")
            folders.append(batch / str(number))
            told = make_damaged(rng.choice(sound), folders[-1], rng)
            (batch / f"{number}.txt").write_text(told)
        for isa in isas:
            statuses.update(line.split()[0] for line in open_folders(program, folders, isa))
        shutil.rmtree(batch)
    return statuses


def main() -> None:
    """Run the attack by hand."""
    parser = argparse.ArgumentParser(description="Open damaged lookup folders in C.")
    parser.add_argument("--count", type=int, default=10_000, help="damaged folders")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same folders")
    parser.add_argument("--isa", action="append", help="instead of all; may be repeated")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="gatetable-hostile-"))
    program = build_driver(work, ("-O1",))
    isas = options.isa or list_isas(program, write_sound_folders(work)[0])
    start = time.monotonic()
    try:
        statuses = attack(program, work / "work", options.count, options.seed, isas)
    except AssertionError as err:
        sys.exit(f"{err}\nThe folders are left in {work}.")
    shutil.rmtree(work)
    sys.stdout.write(
        f"{options.count} folders x {', '.join(isas)} in {time.monotonic() - start:.0f} s: "
        f"{', '.join(f'status {name}: {n}' for name, n in sorted(statuses.items()))}\n"
    )


if __name__ == "__main__":
    main()
