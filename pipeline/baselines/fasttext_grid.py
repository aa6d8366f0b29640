"""fastText's supervised classifier, the best of a small grid by validation top-1.

Bag of words, word pairs and character n-grams (Joulin et al. 2016, "Bag of Tricks for Efficient
Text Classification"). Every training uses one thread: with more, fastText's threads overwrite each
other's updates and no two trainings agree. The grid's trainings run beside each other instead.
Needs the extra `fasttext`; the library is imported when training.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.baselines.store import MAX_K
from pipeline.tables.source import DataError

_WORD = re.compile(r"[^\W_]+")
"""No underscores: fastText takes every word that begins with `__label__` for a label."""
_LABEL = "__label__"
MAX_WORKERS = 4
"""A training holds up to 200 MB of n-gram vectors."""


@dataclass(frozen=True, kw_only=True)
class FastTextSettings:
    """One point of the grid, in fastText's own names but for the case.

    Attributes:
        dim: Size of a vector.
        epoch: Passes over the training texts.
        lr: Learning rate, falling linearly to 0.
        word_ngrams: Longest sequence of words that has a vector.
        minn: Shortest character n-gram that has a vector.
        maxn: Longest one; 0 for none.
        bucket: Vectors that all n-grams share by hash.
    """

    dim: int = 100
    epoch: int = 5
    lr: float = 0.5
    word_ngrams: int = 2
    minn: int = 0
    maxn: int = 0
    bucket: int = 500_000


GRID = (
    FastTextSettings(),
    FastTextSettings(epoch=4, lr=0.7),
    FastTextSettings(epoch=10, lr=0.25),
    FastTextSettings(word_ngrams=3),
    FastTextSettings(minn=3, maxn=5),
)
"""What is tried. On the embedded data single words and more epochs or dimensions reach less."""


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """What one training of the grid reached.

    Attributes:
        settings: With what.
        validation_top_1: A fraction; None where training ended in NaN.
    """

    settings: FastTextSettings
    validation_top_1: float | None


@dataclass(frozen=True, kw_only=True)
class GridResult:
    """The best training of the grid, and all that were tried.

    Attributes:
        best: Settings of the training with the highest validation top-1, the first of equals.
        tried: Every training, in the grid's order.
        scores: By split, `(N, C)` float64 probabilities; classes without one are -inf.
    """

    best: FastTextSettings
    tried: tuple[GridPoint, ...]
    scores: Mapping[str, npt.NDArray[np.float64]]


def check_fasttext() -> None:
    """Import the library, so that its absence is told before any work is done.

    Raises:
        DataError: It is not installed.
    """
    try:
        import fasttext  # noqa: F401
    except ImportError as err:
        raise DataError(
            f"fastText: expected the library fasttext, found none ({err}). Install the extra with "
            "`pip install -e '.[fasttext]'`, or measure `--kind svm`."
        ) from err


def clean_text(text: str) -> str:
    """Return the words of a text as fastText gets them: NFKC, casefolded, between single spaces."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _train(path: Path, settings: FastTextSettings) -> Any:
    import fasttext

    fields = asdict(settings)
    return fasttext.train_supervised(
        input=str(path),
        wordNgrams=fields.pop("word_ngrams"),
        label=_LABEL,
        thread=1,
        seed=1,
        verbose=0,
        **fields,
    )


def _score(model: Any, texts: Sequence[str], num_classes: int) -> npt.NDArray[np.float64]:
    full = np.full((len(texts), num_classes), -np.inf)
    labels, probabilities = model.predict(list(texts), k=min(num_classes, MAX_K))
    for row, names, values in zip(full, labels, probabilities, strict=True):
        row[[int(name.removeprefix(_LABEL)) for name in names]] = values
    return full


def score_by_fasttext(
    train: tuple[Sequence[str], Sequence[int]],
    texts: Mapping[str, Sequence[str]],
    validation_labels: Sequence[int],
    *,
    num_classes: int,
    grid: Sequence[FastTextSettings] = GRID,
    notify: Callable[[GridPoint], None] = lambda _: None,
) -> GridResult:
    """Train once with each settings of the grid, and score with the best.

    Args:
        train: Texts and label ids.
        texts: Texts to score, by split; `validation` among them.
        validation_labels: Right label ids of `texts["validation"]`.
        num_classes: C.
        grid: What to try.
        notify: Told of each training as it ends.

    Returns:
        The best one's scores, and what every training reached. The same on every call.

    Raises:
        DataError: The library is not installed, or every training ended in NaN.
    """
    check_fasttext()
    cleaned = {split: [clean_text(text) for text in rows] for split, rows in texts.items()}
    right = np.array(validation_labels)
    points: list[GridPoint | None] = [None] * len(grid)
    best: tuple[float, int, Any] | None = None

    with tempfile.TemporaryDirectory(prefix="gatetable-") as folder:
        path = Path(folder) / "train.txt"
        with path.open("w", encoding="utf-8") as lines:
            for text, label in zip(*train, strict=True):
                lines.write(f"{_LABEL}{label} {clean_text(text)}\n")

        def run(settings: FastTextSettings) -> tuple[float | None, Any]:
            try:
                model = _train(path, settings)
            except RuntimeError:  # "Encountered NaN."
                return None, None
            answers = _score(model, cleaned["validation"], num_classes).argmax(axis=1)
            return float((answers == right).mean()), model

        workers = min(len(os.sched_getaffinity(0)), MAX_WORKERS, len(grid))
        with ThreadPoolExecutor(workers) as pool:
            futures = {pool.submit(run, settings): index for index, settings in enumerate(grid)}
            for future in as_completed(list(futures)):
                index = futures.pop(future)
                accuracy, model = future.result()
                points[index] = GridPoint(settings=grid[index], validation_top_1=accuracy)
                notify(points[index])  # type: ignore[arg-type]
                if accuracy is not None and (
                    best is None or (accuracy, -index) > (best[0], -best[1])
                ):
                    best = (accuracy, index, model)
                del future, model  # models that lost are large
    if best is None:
        raise DataError(
            f"fastText: expected one of {len(grid)} trainings to end, found NaN in all of them. "
            "Look at the data card for texts that are no language, or measure `--kind svm`."
        )
    return GridResult(
        best=grid[best[1]],
        tried=tuple(point for point in points if point is not None),
        scores={split: _score(best[2], rows, num_classes) for split, rows in cleaned.items()},
    )
