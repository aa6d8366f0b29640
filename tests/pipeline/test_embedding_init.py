"""What an embedding starts from: files of vectors, read or refused, and skip-gram's."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.embedding_init import StartingRows, make_starting_rows, pin_embeddings
from pipeline.shards import read_shard
from pipeline.tokenizer import load_processor

CAT, IRON = [1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]


def from_file(path: Path) -> TrainConfig:
    return TrainConfig(embedding_init="file", pretrained_embeddings=str(path))


def read(data: PreparedData, path: Path, *, embed_dim: int = 3) -> StartingRows:
    rows = make_starting_rows(data, from_file(path), embed_dim=embed_dim)
    assert rows is not None
    return rows


def find(data: PreparedData, piece: str) -> int:
    return int(load_processor(data.tokenizer_path).piece_to_id(piece))


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
@pytest.mark.parametrize("header", ["", "3 3\n"])
def test_words_give_their_vectors_to_pieces_that_are_whole_words(
    prepared: PreparedData, tmp_path: Path, ending: str, header: str
) -> None:
    path = tmp_path / f"vectors.{ending}"
    content = f"{header}cat 1 2 3\niron -1 .5 .25\nunheard 9 9 9\n".encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    rows = read(prepared, path)
    assert rows.values.shape == (prepared.vocab_size, 3)
    assert rows.values.dtype == np.float32
    assert rows.covered == 2
    assert rows.values[find(prepared, "▁cat")].tolist() == CAT
    assert rows.values[find(prepared, "▁iron")].tolist() == IRON


def test_pieces_are_taken_as_they_are(prepared: PreparedData, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    # "s" is a piece within words here, and no word of its own.
    path.write_text("▁cat 1 2 3\ns -1 .5 .25\niron 7 7 7\n<unk> 8 8 8\n", encoding="utf-8")
    rows = read(prepared, path)
    assert rows.values[find(prepared, "▁cat")].tolist() == CAT
    assert rows.values[find(prepared, "s")].tolist() == IRON
    assert rows.covered == 2


def test_an_array_goes_with_its_vocabulary(prepared: PreparedData, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([CAT, IRON], np.float64))
    (tmp_path / "v.vocab").write_text("▁cat\n▁iron\n", encoding="utf-8")
    rows = read(prepared, tmp_path / "v.npy")
    assert rows.values[find(prepared, "▁iron")].tolist() == IRON


def test_other_rows_are_random_and_as_wide_as_the_vectors(
    prepared: PreparedData, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("cat 10 -10 10\niron -10 10 -10\n")
    rows = read(prepared, path)
    others = np.delete(rows.values, [find(prepared, "▁cat"), find(prepared, "▁iron")], axis=0)
    assert others.std() == pytest.approx(10, rel=0.1)
    np.testing.assert_array_equal(read(prepared, path).values, rows.values)


def test_a_token_with_blanks_is_no_reason_to_refuse_a_file(
    prepared: PreparedData, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("at the end 1 1 1\ncat 1 2 3\n")
    assert read(prepared, path).covered == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("9 50\ncat 1 2 3\n", r"line 1: expected vectors of 3 numbers, found 50\. Give --embed-d"),
        ("cat 1 2\n", r"line 1: expected vectors of 3 numbers, found 2\. Give --embed-dim that"),
        ("cat 1 2 3 4\n", r"line 1: expected vectors of 3 numbers, found 4\."),
        ("cat 1 2 3\ndog 1 x 3\n", r"line 2: expected a token and 3 numbers, found 'dog 1 x 3'"),
        ("cat 1 nan 3\n", r"expected finite numbers, found others"),
        ("KATZE 1 2 3\n", r"expected vectors of pieces of the tokenizer, or of words .* case\?"),
        ("", r"expected vectors of pieces of the tokenizer"),
    ],
)
def test_a_file_of_another_form_is_refused(
    prepared: PreparedData, tmp_path: Path, content: str, match: str
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        read(prepared, path)


def test_bytes_that_are_no_text_are_refused(prepared: PreparedData, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"cat 1 2 3\n\xff\xfe 1 2 3\n")
    with pytest.raises(ValueError, match="line 2: expected UTF-8 text, found"):
        read(prepared, path)
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="line 0: expected UTF-8 text, found Not a gzipped file"):
        read(prepared, path)


def test_arrays_of_another_form_are_refused(prepared: PreparedData, tmp_path: Path) -> None:
    path, vocab = tmp_path / "v.npy", tmp_path / "v.vocab"
    vocab.write_text("▁cat\n", encoding="utf-8")
    for array, match in (
        (np.zeros((1, 4)), "expected vectors of 3 numbers, found 4"),
        (np.zeros(3), r"expected \(N, 3\) floats, found \(3,\) float64"),
        (np.zeros((1, 3), int), r"expected \(N, 3\) floats, found \(1, 3\) int64"),
        (np.zeros((2, 3)), r"v\.vocab: expected 2 tokens as there are rows in v\.npy, found 1"),
        (np.zeros((0, 3)), r"v\.vocab: expected 0 tokens as there are rows in v\.npy, found more"),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=match):
            read(prepared, path)
    path.write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"v\.npy: expected a NumPy array, found"):
        read(prepared, path)
    vocab.unlink()
    with pytest.raises(ValueError, match=r"v\.vocab: expected vectors as text, or an \.npy file"):
        read(prepared, path)


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    assert pin_embeddings(TrainConfig()) == TrainConfig()
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    for path in (one, other):
        path.write_text("cat 1 2 3\n")
    keys = [pin_embeddings(from_file(path)).key_fields() for path in (one, other)]
    assert keys[0] == keys[1]
    other.write_text("cat 1 2 4\n")
    assert pin_embeddings(from_file(other)).key_fields() != keys[0]
    with pytest.raises(
        ValueError, match=r"absent\.txt: expected vectors as text, .* found no such"
    ):
        pin_embeddings(from_file(tmp_path / "absent.txt"))


def test_random_rows_are_left_to_keras(prepared: PreparedData) -> None:
    assert make_starting_rows(prepared, TrainConfig(), embed_dim=3) is None


SKIP_GRAM = """
import hashlib, sys
from pathlib import Path
from pipeline.config import TrainConfig
from pipeline.data_folder import read_prepared
from pipeline.embedding_init import make_starting_rows

data = read_prepared(Path(sys.argv[1]))
rows = make_starting_rows(data, TrainConfig(embedding_init="skip_gram"), embed_dim=8)
print(hashlib.sha256(rows.values.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_skip_gram_puts_words_together_that_stand_together(prepared: PreparedData) -> None:
    training = TrainConfig(embedding_init="skip_gram")
    rows = make_starting_rows(prepared, training, embed_dim=8)
    assert rows is not None
    assert 0.5 * prepared.vocab_size < rows.covered <= prepared.vocab_size
    ids = [find(prepared, f"▁{word}") for word in ("cat", "dog", "fox", "iron", "gold", "zinc")]
    vectors = rows.values[ids] / np.linalg.norm(rows.values[ids], axis=1, keepdims=True)
    alike = vectors @ vectors.T
    among = alike[:3, :3][~np.eye(3, dtype=bool)]
    assert among.mean() > alike[:3, 3:].mean()  # animals stand beside animals
    again = make_starting_rows(prepared, dataclasses.replace(training, seed=2), embed_dim=8)
    assert again is not None
    assert not np.array_equal(again.values, rows.values)


@pytest.mark.slow
def test_skip_gram_reads_no_more_shards_once_it_has_pieces_enough(
    prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainConfig(embedding_init="skip_gram")
    whole = make_starting_rows(prepared, training, embed_dim=4)
    monkeypatch.setattr("pipeline.embedding_init._MAX_PIECES", 1)
    few = make_starting_rows(prepared, training, embed_dim=4)
    assert whole is not None
    assert few is not None
    assert len(prepared.train.shards) > 1
    assert few.covered < whole.covered
    first = len(read_shard(prepared.train.shards[0])[0])
    assert (few.texts, whole.texts) == (first, prepared.train.count)


@pytest.mark.slow
def test_skip_gram_gives_another_process_the_same_vectors(prepared: PreparedData) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SKIP_GRAM, str(prepared.folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = make_starting_rows(prepared, TrainConfig(embedding_init="skip_gram"), embed_dim=8)
    assert rows is not None
    assert done.stdout.strip() == hashlib.sha256(rows.values.tobytes()).hexdigest()
