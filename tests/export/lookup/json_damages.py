"""Ways to damage the JSON of a lookup folder: its manifest and its labels."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.export.lookup.damages import (
    Damage,
    fix_size,
    replace_file,
    reseal_some,
    write_manifest,
)

_NUMBERS = (-1, 0, 1, 2, 3, 4095, 4096, 4097, 65536, 65537, 10**6, 10**6 + 1, 2**31 - 1, 2**31)
_HOSTILE: tuple[Any, ...] = (
    *_NUMBERS,
    *(2**32, 2**63 - 1, 2**63, 2**64, 10**40, -(10**40), 0.5, 1e-5, 1e300, 1e-300, True, False),
    *(None, "", "x", "float32", "int8", "max", "gatetable-lookup", "\x01", "고양이", "a" * 5000),
    *([], {}, [[]], [1], [1, 2, 3], {"words": 1}, {"a": {"b": {"c": {}}}}),
)
"""What a manifest's value may be replaced by."""
_LARGE = (
    *("[" * 50_000, '{"a":' * 50_000, "[" * 7 + "]" * 7, "[" * 9 + "]" * 9, '["a",' * 100_000),
    json.dumps({str(number): number for number in range(300)}),
)
_TEXTS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "01", "-", "1.", ".5", "1e", "+1", "nul", "truex"),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude42"', '"\\ud83d\\u0041"', '"\\u0000"', '"\\x"'),
    *('"\\u12"', '"', "'a'", '"a\nb"', '"\\"', "{", "}", "[", "]", ",", ":", "\ufeff", "/**/"),
)


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
    write_manifest(folder, manifest)
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
    write_manifest(folder, manifest)
    return f"axis {axis} from {old} to {new}"


def edit_text(folder: Path, rng: random.Random) -> str:
    """Break the JSON of the manifest or the labels."""
    path = folder / rng.choice(("manifest.json", "labels.json"))
    text = path.read_text()
    insertion = rng.choice(_LARGE if rng.random() < 0.3 else ("", *_TEXTS))
    if rng.random() < 0.5:  # in the place of a value
        spans = [found.span(1) for found in re.finditer(r'[\[:,]\s*("[^"]*"|\d+|true|false)', text)]
        start, stop = rng.choice(spans)
    else:
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 0, 1, 5)))
    rest = text[stop:] if rng.random() < 0.8 else ""
    replace_file(path, (text[:start] + insertion + rest).encode())
    fix_size(folder, path.name)
    reseal_some(path, rng)
    return f"wrote {insertion[:20]!r} into {path.name} at {start}"


def repeat_text(folder: Path, rng: random.Random) -> str:
    """Repeat a stretch of JSON: duplicate keys, labels, brackets."""
    path = folder / rng.choice(("manifest.json", "labels.json"))
    lines = path.read_text().splitlines(keepends=True)
    start = rng.randrange(len(lines))
    stop = start + rng.choice((1, 1, 2, 6))
    replace_file(path, "".join(lines[:stop] + lines[start:stop] + lines[stop:]).encode())
    fix_size(folder, path.name)
    reseal_some(path, rng)
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
    replace_file(folder / "labels.json", text.encode())
    fix_size(folder, "labels.json")
    return "wrote other labels"


JSON_DAMAGES: tuple[Damage, ...] = (
    *(edit_manifest, edit_manifest, change_axes, edit_text, edit_text, repeat_text, write_labels),
)
"""Every damage of this module; the ones that get deep into a reader twice."""
