from __future__ import annotations

from datetime import UTC, datetime

import pytest

from export.store.failures import describe_failure

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "headers", "text"),
    [
        (
            "SignatureDoesNotMatch",
            {},
            "found that the secret is not the access key's. Check AWS_SECRET_ACCESS_KEY, or the "
            "profile's.",
        ),
        ("Forbidden", {}, "found that these credentials may not. docs/s3.md"),
        ("403", {}, "found that these credentials may not."),
        ("NoSuchBucket", {}, "found no such bucket. Create it, or correct its name"),
        (
            "RequestTimeTooSkewed",
            {"date": "Thu, 01 Jan 2026 13:00:00 GMT"},
            "found that this machine's clock is 3600 s behind the server's. Set the clock:",
        ),
        (
            "RequestTimeTooSkewed",
            {"date": "Thu, 01 Jan 2026 11:59:00 GMT"},
            "found that this machine's clock is 60 s ahead of the server's.",
        ),
        ("RequestTimeTooSkewed", {"date": "?"}, "clock is not the server's. Set the clock"),
        (
            "PermanentRedirect",
            {"x-amz-bucket-region": "eu-west-1"},
            "found the bucket in another region, eu-west-1. Set AWS_DEFAULT_REGION to it.",
        ),
        ("NotImplemented", {}, "found that the store cannot do that."),
        ("Strange", {}, "found the answer Strange, status 418. Try again later"),
    ],
)
def test_an_answer_is_explained(code: str, headers: dict[str, str], text: str) -> None:
    assert describe_failure(code, 418, headers, NOW).startswith(text) or text in describe_failure(
        code, 418, headers, NOW
    )
