"""Over HTTP too, the backends must give the same answers before any of them is timed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any

from serving_compare.agreement import AgreementError
from serving_compare.load.errors import ServerError
from serving_compare.load.request import JSON_TYPE, Target, format_body

TIMEOUT_S = 30.0

Prediction = dict[str, float]
"""Label to probability, of the best labels of one text."""


def ask_texts(target: Target, texts: Sequence[str], *, k: int) -> list[Prediction]:
    """Return the answer to each text, asked one at a time.

    Raises:
        ServerError: An answer is not what the server promises.
    """
    connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    answers = []
    try:
        for text in texts:
            body = format_body(target, [text], k=k)
            connection.request("POST", target.path, body, {"Content-Type": JSON_TYPE})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ServerError(
                    f"{target.url}: expected an answer, found status {response.status}: "
                    f"{content[:200].decode(errors='replace')}"
                )
            answers.append(_read_prediction(target, content))
    except (OSError, http.client.HTTPException) as err:
        raise ServerError(f"{target.url}: expected an answer, found {err!r}.") from err
    finally:
        connection.close()
    return answers


def check_answers(
    answers: Mapping[str, Sequence[Prediction]], texts: Sequence[str], *, tolerance: float
) -> None:
    """Compare every backend with the first one.

    Args:
        answers: Backend to its answer to each text.
        texts: For the message.
        tolerance: Most that two probabilities of one label may differ. Which labels are named
            may differ where they are closer to each other than that.

    Raises:
        AgreementError: Two backends differ.
    """
    first, *others = answers
    for other in others:
        for text, ours, theirs in zip(texts, answers[first], answers[other], strict=True):
            shared = ours.keys() & theirs.keys()
            # A label that only one of them names lies, for the other, below all that it names.
            found = max(
                *(abs(ours[label] - theirs[label]) for label in shared),
                *(ours[label] - min(theirs.values()) for label in ours.keys() - shared),
                *(theirs[label] - min(ours.values()) for label in theirs.keys() - shared),
                0.0,
                0.0,
            )
            if found > tolerance:
                raise AgreementError(
                    f"{other} over HTTP, text {text[:60]!r}: expected the probabilities of {first} "
                    f"within {tolerance:g}, found {found:g} apart. Nothing was timed over HTTP; "
                    "check the artifact with `make verify`."
                )


def _read_prediction(target: Target, content: bytes) -> Prediction:
    try:
        answer: dict[str, Any] = json.loads(content)
        (best,) = answer["predictions"]
        return {str(pair["label"]): float(pair["probability"]) for pair in best}
    except (ValueError, KeyError, TypeError) as err:
        raise ServerError(
            f"{target.url}: expected one list of labels and probabilities, found "
            f"{content[:200].decode(errors='replace')!r}."
        ) from err
