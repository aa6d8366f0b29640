"""Random damage to one file of an artifact: a flipped bit, or a cut. Tells what it did."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from export.bundle import list_files

GOLDEN = Path(__file__).parents[1] / "golden" / "v3"


def copy_golden(folder: Path) -> Path:
    """Copy the frozen artifact of the newest format."""
    return shutil.copytree(GOLDEN, folder)


@dataclass(frozen=True)
class Damage:
    """One file's name, its bytes after the damage, and what was done."""

    name: str
    data: bytes
    what: str


def make_damages(folder: Path, count: int, seed: int) -> list[Damage]:
    """Return `count` damages, three flipped bits to one cut, every file as often as another."""
    rng = random.Random(seed)
    names = list_files(folder)
    damages = []
    for number in range(count):
        if number % len(names) == 0:
            rng.shuffle(names)
        name = names[number % len(names)]
        data = bytearray((folder / name).read_bytes())
        if rng.random() < 0.75:
            place, bit = rng.randrange(len(data)), rng.randrange(8)
            data[place] ^= 1 << bit
            what = f"{name}: bit {bit} of byte {place}"
        else:
            length = rng.choice((0, len(data) - 1, rng.randrange(len(data))))
            del data[length:]
            what = f"{name}: cut to {length} bytes"
        damages.append(Damage(name, bytes(data), what))
    return damages
