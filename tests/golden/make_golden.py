"""Writes `tests/golden/v<N>`, once for each format version: a whole artifact, as small as can be.

    python tests/golden/make_golden.py

The folders are frozen. They must load and replay for ever; a change of the format adds another
beside them and leaves them alone. Of today's version it has compressed arrays of both kinds and a
word table; v1 and v2 were written by the code of their day.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from export.bundle import FORMAT_VERSION  # noqa: E402
from export.compression import Option  # noqa: E402
from export.publish import export_run  # noqa: E402
from tests.export.tiny import (  # noqa: E402
    make_config,
    make_keras_model,
    train_tokenizer,
    write_tiny_run,
)


def main() -> None:
    """Export a run with random weights and move the artifact here."""
    target = HERE / f"v{FORMAT_VERSION}"
    if target.exists():
        raise SystemExit(f"{target}: expected none, found it. It is frozen: raise FORMAT_VERSION.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # One direction, because each adds 60 kB to either SavedModel.
    config = make_config(embed_dim=3, units=3, num_classes=2, bidirectional=False)
    with tempfile.TemporaryDirectory(dir=HERE) as build:
        folder = Path(build) / "runs" / "golden"
        folder.mkdir(parents=True)
        make_keras_model(config).save(folder / "model.keras")
        # The one rule that a word table needs; whole sets of rules take 240 kB and more.
        rules = sentencepiece.SentencePieceNormalizer(
            norm_map=[("▁", " ")],
            add_dummy_prefix=True,
            escape_whitespaces=True,
            remove_extra_whitespaces=True,
        )
        tokenizer = train_tokenizer(normalizer=rules)
        run = write_tiny_run(folder, config, tokenizer, labels=("animal", "other"), max_tokens=6)
        artifact = export_run(
            run.folder,
            Path(build) / "artifacts",
            option=Option("int16", "int8"),
            max_accuracy_loss=1.0,
        ).artifact
        artifact.oracle_path.unlink()
        artifact.oracle_path.parent.rmdir()
        artifact.folder.rename(target)


if __name__ == "__main__":
    main()
