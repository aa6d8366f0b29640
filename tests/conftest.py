"""Settings every test shares: quiet TensorFlow, no variables of ours, no deadlines."""

from __future__ import annotations

import os

import hypothesis

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
for _name in ("ZIPFILE_NAME", "FILE_NAME", "GATETABLE_BUILD"):
    os.environ.pop(_name, None)

# A deadline measures the machine: beside other work, any example may take 200 ms once.
hypothesis.settings.register_profile("gatetable", deadline=None)
hypothesis.settings.load_profile("gatetable")
