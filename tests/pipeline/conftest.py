"""Small tables of text and label, and the folders made from them."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import settings

from pipeline.config import PrepareConfig
from pipeline.data_folder import PreparedData
from pipeline.prepare import prepare
from pipeline.tables.source import SourceConfig
from pipeline.tokenizer import load_processor

# The machine that runs the tests is shared: a pause of it is no failure of ours.
settings.register_profile("pipeline", deadline=None)
settings.load_profile("pipeline")

ANIMALS = ["cat", "dog", "fox", "owl", "hen", "cow", "ant", "bee", "elk", "emu", "ape", "bat"]
VERBS = ["runs", "eats", "sees", "digs", "flies", "sleeps", "jumps", "swims", "barks", "sings"]
METALS = ["iron", "gold", "zinc", "lead", "tin", "copper", "nickel", "silver", "steel", "brass"]


@pytest.fixture(autouse=True, scope="module")
def any_kernel_behind_deterministic_tests() -> Iterator[None]:
    """Undo `enable_op_determinism`, which a deterministic training leaves on for its process."""
    yield
    config = sys.modules.get("tensorflow.python.framework.config")
    if config is not None:
        config.disable_op_determinism()


Rows = Sequence[tuple[str, str]]
MakeRows = Callable[[int], list[tuple[str, str]]]
MakeTable = Callable[..., SourceConfig]


def _make_rows(count: int) -> list[tuple[str, str]]:
    """`count` different sentences of two classes, which a word tells apart."""
    rng = random.Random(0)
    rows: dict[str, str] = {}
    while len(rows) < count:
        word, label = rng.choice([(ANIMALS, "animal"), (METALS, "metal")])
        text = f"{rng.choice(word)} {rng.choice(VERBS)} {rng.choice(word)} {rng.randrange(1000)}"
        rows[text] = label
    return list(rows.items())


def _write_table(path: Path, rows: Rows, *, header: str = "title,category") -> Path:
    """Write a CSV; cells are quoted."""
    lines = [header, *('"{}","{}"'.format(*row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Give a function that makes so many different rows of two classes."""
    return _make_rows


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    """Give a function that writes rows, or bytes, as a CSV and names it."""

    def make(
        rows: Rows | bytes, *, name: str = "table.csv", header: str = "title,category"
    ) -> SourceConfig:
        path = tmp_path / name
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            _write_table(path, rows, header=header)
        return SourceConfig(path=path)

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """A data folder of 600 rows; tests must not change it."""
    root = tmp_path_factory.mktemp("prepared")
    table = _write_table(root / "pets.csv", _make_rows(600))
    config = PrepareConfig(vocab_size=200, shards=3)
    return prepare(SourceConfig(path=table), config, root / "data" / "pets")


@pytest.fixture(scope="session")
def processor(prepared: PreparedData) -> sentencepiece.SentencePieceProcessor:
    """The tokenizer of `prepared`."""
    return load_processor(prepared.tokenizer_path)


@pytest.fixture(scope="session")
def hostile_strings() -> list[str]:
    """Texts that have broken tokenizers: one JSON string a line, so that any character fits."""
    path = Path(__file__).parent / "hostile_strings.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def _find_free_ports(count: int) -> int:
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
            return int(first)


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], int]:
    """Give a function that finds so many free ports in a row and returns the first."""
    return _find_free_ports


class DataService:
    """A `data-service` command at work."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        self.workers: dict[int, int] = {}
        """Process ids by worker number, as far as lines were read."""

    def wait_for(self, text: str) -> None:
        """Read lines until one holds `text`; the suite's timeout ends a wait that is in vain."""
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.match(r"worker (\d+) \(.*, process (\d+)\) is ready", line):
                self.workers[int(found[1])] = int(found[2])
            if text in line:
                return
        raise AssertionError(f"the service ended without saying {text!r}: {''.join(lines)}")


@contextmanager
def _start_data_service(*options: str, dispatcher: str | None = None) -> Iterator[DataService]:
    """Start the command; `--port`, where it is given, comes first."""
    port = options[1] if "--port" in options else str(_find_free_ports(4))
    command = [sys.executable, "-m", "pipeline", "data-service", "--port", port, *options]
    if dispatcher:
        command += ["--dispatcher", dispatcher]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield DataService(process, dispatcher or f"grpc://127.0.0.1:{port}")
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def start_data_service() -> Callable[..., AbstractContextManager[DataService]]:
    """Give a function that starts the command with options, as a context."""
    return _start_data_service


@pytest.fixture(scope="session")
def service_of_two() -> Iterator[DataService]:
    """A service of two workers, ready; tests may kill a worker if they wait for its return."""
    with _start_data_service("--workers", "2") as service:
        service.wait_for("All ready")
        yield service
