"""Settings every test shares: quiet TensorFlow, one thread per library, no network variables."""

from __future__ import annotations

import os

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
for _name in ("ZIPFILE_NAME", "FILE_NAME", "GATETABLE_BUILD"):
    os.environ.pop(_name, None)
