"""`/openapi.json` tells the truth: schemathesis makes requests of it, right and wrong ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving_compare.server.running import Running

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance", "missing_required_header"),
)
"""Not `positive_data_acceptance`: a schema cannot say that data must fit their shape."""


@pytest.mark.slow
def test_every_answer_is_one_the_description_announces(
    golden_server: Running, tmp_path: Path
) -> None:
    names = tmp_path / "schemathesis.toml"
    names.write_text('[parameters]\n"path.name" = "tiny"\n"path.version" = "1"\n')
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", names, "run", f"{golden_server.urls['lookup']}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "30", "--seed", "1", "--generation-database", "none"),
            *("--warnings", "off", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "15 selected / 15 total" in done.stdout
