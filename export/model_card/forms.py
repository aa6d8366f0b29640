"""The card's sections on the files: agreement with Keras, compression, word table, checksums."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export import bundle
from export.compression import EXACT_OPTION, Option, list_options
from export.model_card.markdown import fold, format_share, format_table
from export.sizes import format_bytes

FORM_PATHS = {
    "saved_model": bundle.SAVED_MODEL_FOLDER,
    "saved_model_text": bundle.SAVED_MODEL_TEXT_FOLDER,
    "onnx": bundle.ONNX_FILE,
    "tf2onnx": bundle.ORACLE_FILE,
    "lookup": bundle.LOOKUP_FOLDER,
    "lookup_numpy": bundle.LOOKUP_FOLDER,  # the same folder by its other engine
}
"""Form -> its file or folder in an artifact."""

_UNLISTED = (bundle.MODEL_CARD_FILE, bundle.MANIFEST_FILE)
"""The card cannot hold its own checksum, and the manifest holds the card's."""


def wrap(text: str) -> str:
    """Return a paragraph in lines of 100 characters."""
    return textwrap.fill(text, 100, break_on_hyphens=False, break_long_words=False)


def measure_bytes(folder: Path, name: str) -> int:
    """Return the bytes of a file, or of everything in a folder."""
    path = folder / name
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def format_promise(parity: Mapping[str, Any], compression: Mapping[str, Any]) -> str:
    """Say what the forms have in common."""
    label = Option(compression["table_dtype"], compression["recurrent_dtype"]).label
    answers = (
        f"answers: probabilities within {parity['tolerance']:g} of the trained Keras model on all "
        f"{parity['rows']:,} texts of its test split, and the same first {parity['k']} labels."
    )
    if label == EXACT_OPTION.label:
        return wrap(f"Every form in this folder gives the same {answers}")
    changed = parity["backends"]["lookup"]["top_k_disagreements"]
    return "\n\n".join(
        (
            wrap(f"Every form in this folder but `lookup/` gives the same {answers}"),
            wrap(
                f"`lookup/` is compressed ({label}): its probabilities lie within "
                f"{compression['tolerance']:g} of the trained model's, and its first "
                f"{parity['k']} labels differ on {changed} of those texts."
            ),
        )
    )


def format_agreement(fields: Mapping[str, Any], folder: Path) -> str:
    """Return the table of the forms beside Keras."""
    replayed, parity = fields["metrics"]["replayed"], fields["parity"]
    keras = replayed["keras"]
    rows = [("Keras, as trained", *_shares(keras), "", "", "")]
    rows += [
        (
            form,
            *_shares(replayed[form]),
            f"{parity['backends'][form]['max_abs_probability_diff']:.1e}",
            f"{parity['backends'][form]['top_k_disagreements']:,}",
            format_bytes(measure_bytes(folder, path)),
        )
        for form, path in FORM_PATHS.items()
        if form in parity["backends"]
    ]
    k = replayed["k"]
    header = ("form", "top-1", f"top-{k}", "largest difference", f"other first {k}", "size")
    return "\n\n".join(
        (
            format_table(header, rows),
            wrap(
                "Accuracy, the largest difference of a probability and the number of texts with "
                "other first labels come from one pass over the test split, in which each form "
                f"stood beside Keras. So did {parity['probes']} probes, in batches of "
                f"{', '.join(map(str, parity['probe_batch_sizes']))}. Text to ids: "
                f"{parity['tokenizer_differences']} differences between the tokenizers of the "
                "forms. An export that finds more than it promises publishes nothing."
            ),
        )
    )


def _shares(accuracy: Mapping[str, float]) -> tuple[str, str]:
    return format_share(accuracy["top_1"]), format_share(accuracy["top_k"])


def format_compression(compression: Mapping[str, Any]) -> str:
    """Return what smaller lookup tables would cost."""
    option = Option(compression["table_dtype"], compression["recurrent_dtype"])
    header, *rows = list_options(compression)
    return "\n\n".join(
        (
            f"`lookup/` of this artifact is stored as: **{option.label}**.\n"
            "Smaller is an option of the export (`--lookup-table`, `--lookup-recurrent`), never "
            "the default.\nWhat each would cost, against the exact arrays, on the same test split:",
            format_table(header, rows),
            wrap(
                "Kernel: the recurrent kernels. Δlogit: the largest difference of a logit over the "
                "test split and the probes. Changed: texts with another first label / another set "
                f"of first {compression['k']}. This export refused to publish what loses more than "
                f"{compression['max_accuracy_loss']:g} (a fraction) of top-1 or "
                f"top-{compression['k']} accuracy."
            ),
        )
    )


def describe_word_table(entry: Mapping[str, Any]) -> str:
    """Return what a manifest's `word_table` entry says, whole sentences for people."""
    if entry["refusal"] is not None:
        return f"The lookup folder has no word table. {entry['refusal']}"
    return (
        f"The lookup folder holds the ids of {entry['words']} words of the training texts, among "
        f"them {entry['test_word_share']:.1%} of the words of the test split and all words of "
        f"{entry['test_text_share']:.1%} of its texts. Ids by the table were compared with the "
        f"tokenizer's own on {entry['checked_texts']} texts."
    )


_FILES = """\
Each file but `manifest.json` and this one, which the manifest lists. To check a copy, in its
folder:

```sh
grep -E '^[0-9a-f]{64}  ' MODEL_CARD.md | sha256sum --check --quiet --ignore-missing
```

That compares what is there. `python -m export verify FOLDER` (of gatetable) also finds files that
are missing or do not belong, compares this card, and replays the golden probes on every runtime.
A publisher may sign: the signature of `manifest.json`, and by its checksums of everything, is then
`../<version>.sig` (Ed25519). It says who published the folder, which checksums alone do not:

```sh
openssl pkeyutl -verify -rawin -pubin -inkey publisher.pub.pem \\
    -sigfile ../<version>.sig -in manifest.json
```

`{oracle}` is the same model converted by tf2onnx, kept as an independent check; it may be
deleted.
"""


def format_files(folder: Path) -> str:
    """Return the checksums of all files but the card and the manifest, and how to check them."""
    names = [name for name in bundle.list_files(folder) if name not in _UNLISTED]
    lines = "\n".join(f"{bundle.hash_file(folder / name)}  {name}" for name in names)
    total = format_bytes(sum((folder / name).stat().st_size for name in names))
    text = _FILES.replace("{oracle}", bundle.ORACLE_FILE)
    sums = fold(f"sha256 of {len(names)} files, {total}", f"```text\n{lines}\n```")
    return f"{text}\n{sums}"
