"""Every way we could think of to damage a lookup folder.

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[Path, random.Random], str]

_NUMBERS = (-1, 0, 1, 2, 3, 4095, 4096, 4097, 65536, 65537, 10**6, 10**6 + 1, 2**31 - 1, 2**31)
_HOSTILE: tuple[Any, ...] = (
    *_NUMBERS,
    *(2**32, 2**63 - 1, 2**63, 2**64, 10**40, -(10**40), 0.5, 1e-5, 1e300, 1e-300, True, False),
    *(None, "", "x", "float32", "int8", "max", "gatetable-lookup", "\x01", "고양이", "a" * 5000),
    *([], {}, [[]], [1], [1, 2, 3], {"words": 1}, {"a": {"b": {"c": {}}}}),
)
"""What a manifest's value may be replaced by."""
_DEEP = ("[" * 50_000, '{"a":' * 50_000, "[" * 7 + "]" * 7, "[" * 9 + "]" * 9, '["a",' * 100_000)
_TEXTS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "01", "-", "1.", ".5", "1e", "+1", "nul", "truex"),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude42"', '"\\ud83d\\u0041"', '"\\u0000"', '"\\x"'),
    *('"\\u12"', '"', "'a'", '"a\nb"', '"\\"', "{", "}", "[", "]", ",", ":", "\ufeff", "/**/"),
)
_FLOATS = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e31, 1e30, -1e30, 1e-45, -1e-45, -0.0, 1e10)


def _pick(folder: Path, rng: random.Random, pattern: str = "*") -> Path:
    return rng.choice(sorted(folder.glob(pattern)))


def _replace(path: Path, data: bytes) -> None:
    # The files are hard links to the sound ones.
    path.unlink()
    path.write_bytes(data)


def flip_bits(folder: Path, rng: random.Random) -> str:
    """Flip one to four bits."""
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _replace(path, bytes(data))
    return f"flipped bits of {path.name}"


def flip_early_bits(folder: Path, rng: random.Random) -> str:
    """Flip a bit near the beginning of an array, where its header is."""
    path = _pick(folder, rng, "*.npy")
    data = bytearray(path.read_bytes())
    data[rng.randrange(min(len(data), 130))] ^= 1 << rng.randrange(8)
    _replace(path, bytes(data))
    return f"flipped a bit in the header of {path.name}"


def overwrite(folder: Path, rng: random.Random) -> str:
    """Overwrite a stretch of bytes."""
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    count = rng.choice((1, 2, 4, 8, 64))
    filling = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b" ", b'"', rng.randbytes(1)))
    data[start : start + count] = filling * len(data[start : start + count])
    _replace(path, bytes(data))
    return f"overwrote {count} bytes of {path.name} from {start}"


def truncate(folder: Path, rng: random.Random) -> str:
    """Cut a file short, some down to nothing."""
    path = _pick(folder, rng)
    data = path.read_bytes()
    keep = rng.choice((0, 1, 9, 10, 64, 128, len(data) - 1, rng.randrange(len(data) + 1)))
    _replace(path, data[: max(keep, 0)])
    return f"cut {path.name} to {keep} bytes"


def extend(folder: Path, rng: random.Random) -> str:
    """Add something behind a file."""
    path = _pick(folder, rng)
    more = rng.choice((b"\0", b"\n", rng.randbytes(4), rng.randbytes(64), path.read_bytes()))
    _replace(path, path.read_bytes() + more)
    return f"added {len(more)} bytes to {path.name}"


def grow(folder: Path, rng: random.Random) -> str:
    """Make a file huge without using the disk."""
    path = _pick(folder, rng)
    size = rng.choice((2**20 + 1, 2**26 + 1, 2**29 + 1, 2**33, 2**40))
    _replace(path, path.read_bytes())
    os.truncate(path, size)
    return f"grew {path.name} to {size} bytes"


def swap(folder: Path, rng: random.Random) -> str:
    """Swap two files."""
    first, second = _pick(folder, rng), _pick(folder, rng)
    one, two = first.read_bytes(), second.read_bytes()
    _replace(first, two)
    _replace(second, one)
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
    _replace(path, edited)
    return f"edited the header of {path.name}: {old!r} to {new!r}"


def set_values(folder: Path, rng: random.Random) -> str:
    """Put dangerous numbers into an array without touching its form."""
    path = _pick(folder, rng, "*.npy")
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
                values[rng.randrange(values.size)] = np.array(rng.choice(choices)).astype(dtype)
            if rng.random() < 0.1:
                values[:] = np.array(rng.choice(choices)).astype(dtype)
    _replace(path, bytes(data))
    return f"set values of {path.name}"


def _dump(folder: Path, manifest: object) -> None:
    _replace(folder / "manifest.json", json.dumps(manifest).encode())


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every member of a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*place, key)
            yield from _places(value[key], (*place, key))


def _parent(manifest: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        manifest = manifest[key]
    return manifest


def edit_manifest(folder: Path, rng: random.Random) -> str:
    """Replace, remove, add or rename values of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    told = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(manifest))
        # Half of all places are in the list of files: favour the others.
        short = [place for place in places if len(place) < 3]
        place = rng.choice(short if rng.random() < 0.6 else places)
        parent, key = _parent(manifest, place), place[-1]
        action = rng.choice(("replace", "replace", "replace", "remove", "add", "rename"))
        told.append(f"{action} {'.'.join(map(str, place))}")
        if action == "replace":
            parent[key] = rng.choice(_HOSTILE)
        elif action == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(rng.choice(_HOSTILE))
        elif action == "add":
            parent[rng.choice(("x", "", "gate_table.npy", "../a", "V", "a" * 300))] = 1
        else:
            parent[rng.choice((f"{key}\0", f"{key} ", "x", key.upper()))] = parent.pop(key)
    _dump(folder, manifest)
    return f"manifest: {', '.join(told)}"


def change_axes(folder: Path, rng: random.Random) -> str:
    """Change an axis, and the list of files so that it agrees."""
    manifest = json.loads((folder / "manifest.json").read_text())
    axis = rng.choice("VHC")
    old, new = manifest["axes"][axis], rng.choice(_NUMBERS)
    manifest["axes"][axis] = new
    factor = 3 if axis == "H" else 1
    for record in manifest["files"].values():
        if "shape" in record:
            swaps = {old: new, factor * old: factor * new}
            record["shape"] = [swaps.get(size, size) for size in record["shape"]]
            if rng.random() < 0.9:
                record["bytes"] = max(0, min(128 + 4 * int(np.prod(record["shape"])), 2**62))
    _dump(folder, manifest)
    return f"axis {axis} from {old} to {new}"


def edit_text(folder: Path, rng: random.Random) -> str:
    """Break the JSON of the manifest or the labels."""
    path = folder / rng.choice(("manifest.json", "labels.json"))
    text = path.read_text()
    insertion = rng.choice((*_TEXTS, *_TEXTS, *_DEEP))
    if rng.random() < 0.5:  # in the place of a value
        spans = [found.span(1) for found in re.finditer(r'[\[:,]\s*("[^"]*"|\d+|true|false)', text)]
        start, stop = rng.choice(spans)
    else:
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 0, 1, 5)))
    _replace(path, (text[:start] + insertion + text[stop:]).encode())
    _fix_size(folder, path.name)
    return f"wrote {insertion[:20]!r} into {path.name} at {start}"


def repeat_text(folder: Path, rng: random.Random) -> str:
    """Repeat a stretch of JSON: duplicate keys, labels, brackets."""
    path = folder / rng.choice(("manifest.json", "labels.json"))
    lines = path.read_text().splitlines(keepends=True)
    start = rng.randrange(len(lines))
    stop = start + rng.choice((1, 1, 2, 6))
    _replace(path, "".join(lines[:stop] + lines[start:stop] + lines[stop:]).encode())
    _fix_size(folder, path.name)
    return f"repeated lines {start} to {stop} of {path.name}"


def write_labels(folder: Path, rng: random.Random) -> str:
    """Write other labels of a right length on disk."""
    classes = json.loads((folder / "manifest.json").read_text())["axes"]["C"]
    pool = [
        "",
        "a",
        "a",
        "b\tc",
        "고양이",
        "🙂",
        "é" * 3000,
        "x" * 300,
        "\x7f",
        "\\",
        '"',
        "\u2028",
    ]
    labels: list[Any] = [rng.choice(pool) for _ in range(classes + rng.choice((0, 0, 0, -1, 1)))]
    if rng.random() < 0.5:
        labels = [f"{label}{number}" for number, label in enumerate(labels)]
    if rng.random() < 0.2:
        labels[rng.randrange(len(labels))] = rng.choice(_HOSTILE)
    text = json.dumps(labels, ensure_ascii=rng.random() < 0.5)
    _replace(folder / "labels.json", text.encode())
    _fix_size(folder, "labels.json")
    return "wrote other labels"


def _fix_size(folder: Path, name: str) -> None:
    """Let the manifest's length of a side file agree, so that readers go on to its content."""
    if name != "manifest.json":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name]["bytes"] = (folder / name).stat().st_size
        _dump(folder, manifest)


DAMAGES: tuple[Damage, ...] = (
    *(flip_bits, flip_early_bits, overwrite, truncate, extend, grow, swap, delete, add_entry),
    *(replace_kind, edit_header, set_values, set_values, set_values, edit_manifest, edit_manifest),
    *(change_axes, edit_text, edit_text, repeat_text, write_labels),
)
"""Every damage; the ones that get deep into a reader several times."""
