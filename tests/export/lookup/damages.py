"""Ways to damage the files of a lookup folder: bytes, entries, arrays.

Each damage changes one folder in place, chooses by a random number generator what it does, and
tells what it did. The folder's files may be hard links: a damage replaces files, never writes into
them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.export.lookup.seals import format_fields, reseal

Damage = Callable[[Path, random.Random], str]

_FLOATS = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e31, 1e30, -1e30, 1e-45, -1e-45, -0.0, 1e10)


def _pick(folder: Path, rng: random.Random, pattern: str = "*") -> Path:
    return rng.choice(sorted(folder.glob(pattern)))


def replace_file(path: Path, data: bytes) -> None:
    """Write a new file in the place of a hard link to a sound one."""
    path.unlink()
    path.write_bytes(data)


def write_manifest(folder: Path, manifest: object) -> None:
    """Write a manifest, whatever it is, with its right checksum where it has a place for one."""
    replace_file(folder / "manifest.json", format_fields(manifest))


def reseal_some(path: Path, rng: random.Random) -> None:
    """Let a manifest's own checksum agree half of the time, so that readers go on to its values."""
    if path.name == "manifest.json" and rng.random() < 0.5:
        replace_file(path, reseal(path.read_bytes()))


def fix_size(folder: Path, name: str) -> None:
    """Let the manifest's length of a file agree, so that readers go on to its content."""
    if name != "manifest.json":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name]["bytes"] = (folder / name).stat().st_size
        write_manifest(folder, manifest)


def flip_bits(folder: Path, rng: random.Random) -> str:
    """Flip one to four bits."""
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    replace_file(path, bytes(data))
    reseal_some(path, rng)
    return f"flipped bits of {path.name}"


def flip_early_bits(folder: Path, rng: random.Random) -> str:
    """Flip a bit near the beginning of an array, where its header is."""
    path = _pick(folder, rng, "*.npy")
    data = bytearray(path.read_bytes())
    data[rng.randrange(min(len(data), 130))] ^= 1 << rng.randrange(8)
    replace_file(path, bytes(data))
    return f"flipped a bit in the header of {path.name}"


def overwrite(folder: Path, rng: random.Random) -> str:
    """Overwrite a stretch of bytes."""
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    count = rng.choice((1, 2, 4, 8, 64))
    filling = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b" ", b'"', rng.randbytes(1)))
    data[start : start + count] = filling * len(data[start : start + count])
    replace_file(path, bytes(data))
    reseal_some(path, rng)
    return f"overwrote {count} bytes of {path.name} from {start}"


def truncate(folder: Path, rng: random.Random) -> str:
    """Cut a file short, some down to nothing."""
    path = _pick(folder, rng)
    data = path.read_bytes()
    keep = rng.choice((0, 1, 9, 10, 64, 128, len(data) - 1, rng.randrange(len(data) + 1)))
    replace_file(path, data[: max(keep, 0)])
    if rng.random() < 0.5:
        fix_size(folder, path.name)
    return f"cut {path.name} to {keep} bytes"


def extend(folder: Path, rng: random.Random) -> str:
    """Add something behind a file."""
    path = _pick(folder, rng)
    more = rng.choice((b"\0", b"\n", rng.randbytes(4), rng.randbytes(64), path.read_bytes()))
    replace_file(path, path.read_bytes() + more)
    if rng.random() < 0.5:
        fix_size(folder, path.name)
    return f"added {len(more)} bytes to {path.name}"


def grow(folder: Path, rng: random.Random) -> str:
    """Make a file huge without using the disk."""
    path = _pick(folder, rng)
    size = rng.choice((2**20 + 1, 2**26 + 1, 2**29 + 1, 2**33, 2**40))
    replace_file(path, path.read_bytes())
    os.truncate(path, size)
    return f"grew {path.name} to {size} bytes"


def swap(folder: Path, rng: random.Random) -> str:
    """Swap two files."""
    first, second = _pick(folder, rng), _pick(folder, rng)
    one, two = first.read_bytes(), second.read_bytes()
    replace_file(first, two)
    replace_file(second, one)
    return f"swapped {first.name} and {second.name}"


def delete(folder: Path, rng: random.Random) -> str:
    """Remove a file."""
    path = _pick(folder, rng)
    path.unlink()
    return f"removed {path.name}"


def add_entry(folder: Path, rng: random.Random) -> str:
    """Add a file or folder that does not belong."""
    name = rng.choice(("evil.py", ".DS_Store", "gate_table_2.npy", "a" * 255, "x\ny", "runtime"))
    path = folder / name
    if rng.random() < 0.5:
        path.write_bytes(b"x")
    else:
        path.mkdir()
    return f"added {name!r}"


def replace_kind(folder: Path, rng: random.Random) -> str:
    """Put something that is not a file in the place of one."""
    path = _pick(folder, rng)
    kind = rng.choice(("folder", "link", "link to itself", "dangling link", "pipe", "socket"))
    data = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        elsewhere = folder.parent / f"{folder.name}.elsewhere"
        elsewhere.write_bytes(data)
        path.symlink_to(elsewhere)
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        # A socket's path must be short; the folder may be deep.
        with (
            socket.socket(socket.AF_UNIX) as server,
            tempfile.TemporaryDirectory(dir="/tmp") as short,
        ):
            server.bind(f"{short}/s")
            shutil.move(f"{short}/s", path)
    return f"put a {kind} in the place of {path.name}"


def edit_header(folder: Path, rng: random.Random) -> str:
    """Change what a .npy header says, its length kept where that is possible."""
    path = _pick(folder, rng, "*.npy")
    data = path.read_bytes()
    edits: list[tuple[bytes, bytes]] = [
        (b"<f4", rng.choice((b">f4", b"<f8", b"|O ", b"<i4", b"|i1", b"<f2", b"|V4"))),
        (b"False", b"True "),
        (b"shape", rng.choice((b"shap3", b"descr", b"Shape"))),
        (b"(", rng.choice((b"(-", b"((", b"(9", b"(99999999999999999999,"))),
        (b",", rng.choice((b"", b", 1,", b" ,", b", 0,"))),
        (b"}", rng.choice((b"", b"} #", b"}}", b", 'x': 1}"))),
        (b"\x93NUMPY\x01", rng.choice((b"\x93NUMPY\x02", b"\x93NUMPY\x00", b"\x94NUMPY\x01"))),
        (b"\n", rng.choice((b" ", b"\0", b"\n\n"))),
    ]
    old, new = rng.choice(edits)
    edited = data.replace(old, new, 1)
    if rng.random() < 0.3:  # another header length
        length = rng.choice((0, 1, 54, 117, 118, 119, 182, 1014, 1015, 65535))
        edited = edited[:8] + length.to_bytes(2, "little") + edited[10:]
    replace_file(path, edited)
    return f"edited the header of {path.name}: {old!r} to {new!r}"


def set_values(folder: Path, rng: random.Random) -> str:
    """Put dangerous numbers into an array without touching its form."""
    has_words = (folder / "word_ends.npy").exists()
    path = _pick(folder, rng, "word_*.npy" if has_words and rng.random() < 0.3 else "*.npy")
    data = bytearray(path.read_bytes())
    offset = 10 + int.from_bytes(data[8:10], "little")
    found = re.search(rb"'descr': '(...)'", bytes(data))
    assert found is not None, path
    dtype = np.dtype(found[1].decode())
    values = np.frombuffer(data, dtype, offset=offset)
    if values.size:
        choices: Sequence[Any] = _FLOATS
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            choices = (limits.min, limits.max, limits.max - 1, 0, 1, 2, 29, 30, 32, 127)
        with np.errstate(over="ignore"):
            for _ in range(rng.choice((1, 1, 2, 5))):
                index = rng.choice((0, -1, rng.randrange(values.size)))
                near = (values[index] + 1, values[index] - 1)
                value = rng.choice(near if rng.random() < 0.2 else choices)
                values[index] = np.array(value).astype(dtype)
            if rng.random() < 0.1:
                values[:] = np.array(rng.choice(choices)).astype(dtype)
    replace_file(path, bytes(data))
    return f"set values of {path.name}"


FILE_DAMAGES: tuple[Damage, ...] = (
    *(flip_bits, flip_early_bits, overwrite, truncate, extend, grow, swap, delete, add_entry),
    *(replace_kind, edit_header, set_values, set_values, set_values),
)
"""Every damage of this module; the one that gets deep into a reader several times."""
