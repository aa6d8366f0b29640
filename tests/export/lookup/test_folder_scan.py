from __future__ import annotations

import os
import re

import pytest

from export.lookup import (
    ChecksumError,
    FileSizeError,
    FileTooLargeError,
    MissingFileError,
    UnexpectedFileError,
    UnsafeFileError,
    read_lookup,
)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"none: expected a lookup folder, found none\."):
        read_lookup(tmp_path / "none")


def test_a_folder_is_refused_without_a_manifest(tmp_path):
    with pytest.raises(MissingFileError, match=r"manifest\.json: no such file, so .* is not a lo"):
        read_lookup(tmp_path)


def test_a_folder_is_refused_without_an_array(folder):
    (folder / "head_bias.npy").unlink()
    with pytest.raises(
        MissingFileError, match=r"head_bias\.npy: listed in manifest\.json, found no such file\. C"
    ):
        read_lookup(folder)


@pytest.mark.parametrize("name", ["evil.py", "gate_table.pkl", ".DS_Store", "gate_table_2.npy"])
def test_a_folder_is_refused_with_an_extra_file(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(
        UnexpectedFileError,
        match=re.escape(f"{name}: expected only files that manifest.json lists, found this one."),
    ):
        read_lookup(folder)


def test_a_folder_is_refused_with_an_extra_folder(folder):
    (folder / "more").mkdir()
    with pytest.raises(UnsafeFileError, match="more: expected a regular file, found something el"):
        read_lookup(folder)


@pytest.mark.parametrize("name", ["gate_table.npy", "manifest.json", "runtime"])
def test_symbolic_links_are_refused_even_to_sound_content(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        UnsafeFileError,
        match=re.escape(f"{name}: expected a regular file, found a symbolic link. Copy the files"),
    ):
        read_lookup(folder)


def test_a_pipe_is_refused_without_being_opened(folder):
    (folder / "labels.json").unlink()
    os.mkfifo(folder / "labels.json")
    with pytest.raises(UnsafeFileError, match=r"labels\.json: expected a regular file, found som"):
        read_lookup(folder)


@pytest.mark.parametrize(
    ("name", "cap"), [("manifest.json", 2**20), ("labels.json", 2**26), ("golden.jsonl", 2**29)]
)
def test_files_above_their_cap_are_refused(folder, name, cap):
    os.truncate(folder / name, cap + 1)
    with pytest.raises(
        FileTooLargeError,
        match=re.escape(f"{name}: expected at most {cap} bytes, found {cap + 1}."),
    ):
        read_lookup(folder)


@pytest.mark.parametrize("name", ["gate_table.npy", "tokenizer.model"])
@pytest.mark.parametrize("change", [-1, 1])
def test_files_of_another_length_are_refused(folder, name, change):
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size + change)
    with pytest.raises(
        FileSizeError,
        match=re.escape(
            f"{name}: expected {size} bytes from manifest.json, found {size + change}."
        ),
    ):
        read_lookup(folder)


@pytest.mark.parametrize("name", ["gate_table.npy", "labels.json", "tokenizer.model"])
def test_a_flipped_byte_is_found(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(
        ChecksumError,
        match=rf"{re.escape(name)}: expected sha256 [0-9a-f]{{64}} from manifest\.json, found ",
    ):
        read_lookup(folder)
