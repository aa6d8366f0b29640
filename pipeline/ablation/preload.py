"""What the server of child processes imports first: TensorFlow, without its notes on stderr."""

from __future__ import annotations

from pipeline.run_folder import import_tensorflow

import_tensorflow()
