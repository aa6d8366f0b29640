"""What an S3 error code means, and what to do about it."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import datetime

_MEANINGS = {
    "SignatureDoesNotMatch": (
        "found that the secret is not the access key's. Check AWS_SECRET_ACCESS_KEY, or the "
        "profile's."
    ),
    "InvalidAccessKeyId": "found that the access key is unknown there. Check AWS_ACCESS_KEY_ID.",
    "AccessDenied": (
        "found that these credentials may not. docs/s3.md has the policy they need; a missing "
        "s3:ListBucket also makes what is not there look forbidden."
    ),
    "ExpiredToken": "found that the session has expired. Sign in again.",
    "InvalidToken": "found a session token that is not valid. Check AWS_SESSION_TOKEN.",
    "NoSuchBucket": "found no such bucket. Create it, or correct its name or --endpoint-url.",
    "InvalidBucketName": "found a name that no bucket has. Correct it.",
    "NotImplemented": "found that the store cannot do that. docs/s3.md lists what it must do.",
    "QuotaExceeded": "found the quota used up. Make room.",
    "BadDigest": "found that other bytes arrived than were sent. Check the network between.",
}
_ALIASES = {
    "Forbidden": "AccessDenied",
    "403": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "AccountProblem": "AccessDenied",
}
_SKEWED = ("RequestTimeTooSkewed", "RequestExpired")
_ELSEWHERE = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "TemporaryRedirect",
    "301",
    "307",
)


def describe_failure(code: str, status: int, headers: Mapping[str, str], now: datetime) -> str:
    """Return how a sentence goes on that said what was expected: found what, and what to do.

    Args:
        code: Of the answer, or its status as text.
        status: HTTP status.
        headers: Of the answer, names in lower case.
        now: This machine's time.
    """
    if code in _SKEWED:
        return (
            f"found that this machine's clock is {_compare_clocks(headers, now)}. Set the clock: "
            "signatures are valid for 15 minutes."
        )
    if code in _ELSEWHERE:
        region = headers.get("x-amz-bucket-region")
        where = f", {region}" if region else ""
        return f"found the bucket in another region{where}. Set AWS_DEFAULT_REGION to it."
    meaning = _MEANINGS.get(_ALIASES.get(code, code))
    if meaning is not None:
        return meaning
    return f"found the answer {code}, status {status}. Try again later, or ask who runs the store."


def _compare_clocks(headers: Mapping[str, str], now: datetime) -> str:
    """Return "3600 s behind the server's", by the Date of its answer."""
    try:
        ahead = (now - email.utils.parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return "not the server's"
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
