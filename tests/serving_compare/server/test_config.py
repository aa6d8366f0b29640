"""Settings travel to a worker and arrive as they were."""

from __future__ import annotations

from serving_compare.server.config import Limits, Sibling, WorkerConfig


def test_a_line_gives_back_what_made_it() -> None:
    config = WorkerConfig(
        backend="lookup",
        artifact="/somewhere/with\nnewline",
        follow=True,
        limits=Limits(max_tokens=7, max_wait_ms=1.5, micro_batch=8),
        siblings=(Sibling("lookup", "http://127.0.0.1:1"), Sibling("onnx", "http://127.0.0.1:2")),
        socket_fd=3,
        threads=2,
        cores=(0, 1),
        drain_seconds=2.5,
        accept_while_loading=False,
        access_log=True,
        log_level="debug",
        page=False,
    )
    line = config.to_line()
    assert line.count(b"\n") == 1
    assert WorkerConfig.from_line(line) == config
