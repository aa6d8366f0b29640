"""The model a worker answers with: loaded, proven on its golden probes, and exchanged whole.

`ModelSlot.current` is one reference. A request takes it once and keeps it to its end, so whatever
is exchanged meanwhile, it has the labels and the version of the model that computed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.bundle import Artifact, BundleError, iterate_versions, read_artifact
from export.lookup import LookupModel, Probe, load_lookup, read_lookup
from serving_compare.agreement import TOLERANCE
from serving_compare.backends import BACKENDS, NULL, UNK_ID, ArtifactFiles, Backend, StageClock
from serving_compare.compare import list_files
from serving_compare.server.errors import InputError, RequestError, ServerError

LATEST_FILE = "latest"


Observe = Callable[[int, int], None]


def _ignore(model_ns: int, rows: int) -> None:
    """Nobody counts the probes of a model that is being loaded."""


class Answer(NamedTuple):
    """Probabilities (B, C) float32, and the nanoseconds the backend took for them."""

    probabilities: NDArray[np.float32]
    model_ns: int


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """One version of the model in one backend. Used by one thread at a time.

    Attributes:
        name: Of the artifact.
        version: Of the artifact.
        backend: Name of the backend.
        labels: Label names in id order, C of them.
        max_tokens: Texts are cut to so many ids.
        max_ids: Rows of ids may be so long.
        vocab_size: V; ids run from 0 to V - 1.
        lookup: The lookup runtime, for streams; None in other backends.
        tokenizer: The artifact's sentencepiece processor.
        artifact: What it was loaded from, as its manifest describes it.
        runtime: What computes.
        observe: Told the nanoseconds and the rows of every call.
    """

    name: str
    version: int
    backend: str
    labels: tuple[str, ...]
    max_tokens: int
    max_ids: int
    vocab_size: int
    lookup: LookupModel | None
    tokenizer: Any
    artifact: Artifact
    runtime: Backend
    observe: Observe = _ignore

    def run_texts(self, texts: Sequence[str]) -> Answer:
        """Return the answer of raw texts, at least one; longer texts are cut."""
        began_ns = time.perf_counter_ns()
        probabilities = self.runtime.run_texts(texts)
        return self._finish(probabilities, len(texts), began_ns)

    def run_ids(self, ids: NDArray[np.int32], lengths: NDArray[np.int32]) -> Answer:
        """Return the answer of checked ids (B, T) int32 and lengths (B,) int32; see `check_ids`."""
        began_ns = time.perf_counter_ns()
        probabilities = self.runtime.run_ids(ids, lengths)
        return self._finish(probabilities, len(ids), began_ns)

    def _finish(self, probabilities: NDArray[np.float32], rows: int, began_ns: int) -> Answer:
        model_ns = time.perf_counter_ns() - began_ns
        self.observe(model_ns, rows)
        if len(probabilities) != rows:  # the null backend has one row, whatever is asked
            probabilities = np.broadcast_to(probabilities[:1], (rows, probabilities.shape[1]))
        return Answer(probabilities, model_ns)

    def check_ids(self, ids: NDArray[Any], place: str = "instances") -> None:
        """Check that every id (..., T) is in the vocabulary.

        The runtimes themselves differ: one refuses, one wraps around, one reads what lies there.

        Raises:
            InputError: Names the first id that is not, as `place[row][column]`.
        """
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= self.vocab_size):
            where = np.argwhere((ids < 0) | (ids >= self.vocab_size))[0]
            raise InputError(
                "id_out_of_range",
                f"{place}{''.join(f'[{index}]' for index in where)}: expected an id from 0 to "
                f"{self.vocab_size - 1}, found {ids[tuple(where)]}.",
            )

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the pieces of each text as the model reads them: cut, at least one."""
        unknown = self.tokenizer.id_to_piece(UNK_ID)
        return [
            pieces[: self.max_tokens] or [unknown]
            for pieces in self.tokenizer.encode(list(texts), out_type=str)
        ]


class ModelSlot:
    """Holds the model in use; None while it is loading.

    Args:
        backend: Name of the backend.
        artifact: A version folder, or an artifact's folder where `follow` is set.
        follow: Whether `latest` is followed.
        max_ids: Limit of a row of ids; None for the artifact's.
        threads: Threads of the runtime.

    Attributes:
        observe: Told the nanoseconds and the rows of every call of a model in use.
    """

    def __init__(
        self,
        backend: str,
        artifact: Path,
        *,
        follow: bool,
        max_ids: int | None = None,
        threads: int = 1,
    ) -> None:
        self.backend = backend
        self._artifact = artifact
        self._follow = follow
        self._max_ids = max_ids
        self._threads = threads
        self._model: LoadedModel | None = None
        self.observe: Observe = _ignore

    @property
    def is_loaded(self) -> bool:
        """Whether there is a model to answer with."""
        return self._model is not None

    @property
    def current(self) -> LoadedModel:
        """The model in use. Take it once for a request.

        Raises:
            RequestError: 503 while it is loading.
        """
        if self._model is None:
            raise RequestError(
                503,
                "not_ready",
                f"The model of backend {self.backend} is still loading. Ask again in a second.",
                [(b"retry-after", b"1")],
            )
        return self._model

    def find(self, name: str) -> LoadedModel:
        """Return the model called `name`.

        Raises:
            RequestError: 404 where it has another name, 503 while it is loading.
        """
        model = self.current
        if name != model.name:
            raise RequestError(
                404,
                "unknown_model",
                f"model {name[:80]!r}: expected {model.name!r}, the one this server holds.",
            )
        return model

    def find_version_folder(self) -> Path:
        """Return the folder that should be in use now: the newest where `latest` is followed."""
        if not self._follow:
            return self._artifact
        return find_latest(self._artifact)

    def load(self) -> LoadedModel:
        """Load and verify the version that should be in use now; nothing is exchanged yet.

        Raises:
            BundleError: The folder is damaged.
            ArtifactError: Its lookup folder is.
            ServerError: The backend gives other answers than the golden probes.
        """
        folder = self.find_version_folder()
        return load_model(self.backend, folder, max_ids=self._max_ids, threads=self._threads)

    def exchange(self, model: LoadedModel) -> None:
        """Let `model` answer from the next request on."""
        self._model = replace(model, observe=self.observe)


def find_latest(folder: Path) -> Path:
    """Return the version folder that `latest` names in an artifact's folder.

    Raises:
        BundleError: There is no `latest`, or it does not name a published version.
    """
    place = folder / LATEST_FILE
    try:
        version = place.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise BundleError(
            f"{place}: expected the number of a version, found no such file. Export a run with "
            "`make export`."
        ) from err
    known = sorted(iterate_versions(folder))
    if version not in map(str, known):
        raise BundleError(
            f"{place}: expected one of the versions {', '.join(map(str, known)) or '(none)'}, "
            f"found {version[:40]!r}. Export the run again with `make export`."
        )
    return folder / version


def load_model(
    backend: str, folder: Path, *, max_ids: int | None = None, threads: int = 1
) -> LoadedModel:
    """Load one version in one backend: hashes checked, golden probes replayed, both ways warm.

    Args:
        backend: Name out of `BACKENDS`.
        folder: The version's folder.
        max_ids: Limit of a row of ids; None for the artifact's.
        threads: Threads of the runtime.

    Raises:
        BundleError: The folder is damaged.
        ArtifactError: Its lookup folder is.
        ServerError: The backend gives other answers than the golden probes.
    """
    import sentencepiece

    artifact = read_artifact(folder)
    files = ArtifactFiles(**list_files(artifact)._asdict())
    runtime = BACKENDS[backend](threads)
    clock = StageClock(time.perf_counter_ns())
    runtime.load(files, "text", clock)
    runtime.load(files, "ids", clock)
    is_lookup = backend.startswith("lookup")
    lookup_files = read_lookup(artifact.lookup_path)
    model = LoadedModel(
        name=artifact.name,
        version=artifact.version,
        backend=backend,
        labels=artifact.labels,
        max_tokens=artifact.max_tokens,
        max_ids=max_ids or artifact.max_tokens,
        vocab_size=artifact.vocab_size,
        lookup=_load_for_streams(artifact.lookup_path) if is_lookup else None,
        tokenizer=sentencepiece.SentencePieceProcessor(model_file=str(artifact.tokenizer_path)),
        artifact=artifact,
        runtime=runtime,
    )
    if backend != NULL:
        tolerance = lookup_files.tolerance if is_lookup else TOLERANCE
        replay_probes(model, artifact, lookup_files.golden, tolerance)
    return model


def _load_for_streams(folder: Path) -> LookupModel:
    model = load_lookup(folder, check_hashes=False)
    # The first text, and the first word that is in no table, prove the tokenizer: 60 ms that no
    # request should wait for.
    model.encode(["\N{REPLACEMENT CHARACTER}" * 2])
    return model


def replay_probes(
    model: LoadedModel, artifact: Artifact, probes: Sequence[Probe], tolerance: float
) -> None:
    """Compare the model's answers to the golden probes with the trained model's; also warms it.

    One call a probe, text and ids in: the paths that serve single requests.

    Raises:
        ServerError: Names the first probe with another answer.
    """
    for number, probe in enumerate(probes, start=1):
        ids = np.array([probe.ids], np.int32)
        lengths = np.array([len(probe.ids)], np.int32)
        expected = np.array(probe.probabilities, np.float32)
        for way, answer in (
            ("text", model.run_texts([probe.text])),
            ("ids", model.run_ids(ids, lengths)),
        ):
            difference = float(np.abs(answer.probabilities[0] - expected).max())
            if not difference <= tolerance:  # NaN fails as well
                raise ServerError(
                    f"{artifact.golden_path} line {number}: expected the trained model's "
                    f"probabilities within {tolerance:g} from backend {model.backend}, {way} in, "
                    f"found a difference of {difference:.2g}. Export the run again with "
                    "`make export`."
                )
