"""The one module that knows boto3: requests to a bucket, tried again, with errors in one line.

Every request is tried up to `ATTEMPTS` times, with a random wait between two tries whose upper end
doubles each time, and never past the deadline. boto3's own retries are off: they know no total
time.
Credentials come from boto3's chain (environment, profiles, roles), and are in no message.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from export.store.deadline import Deadline
from export.store.errors import MissingObjectError, PreconditionError, StoreError
from export.store.failures import describe_failure
from export.store.location import Location

Result = TypeVar("Result")
_UNANSWERED = (BotoConnectionError, HTTPClientError, IncompleteReadError)

ATTEMPTS = 5
FIRST_WAIT_S = 0.5
"""Upper end of the random wait behind the first failure; doubles with each."""
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Without a byte: a server that is only slow goes on to the deadline."""
MAX_CONNECTIONS = 16

_RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_RETRIED_CODES = frozenset(
    {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
)
"""Of status 400: what was sent did not arrive as it was sent."""


class BucketClient:
    """Sends requests to one bucket. Safe to share between threads.

    Args:
        location: The bucket, and the prefix that messages name.
        endpoint_url: Of an S3-compatible store, addressed path-style; AWS when None.
        deadline: Of everything done with it.

    Raises:
        StoreError: The endpoint is no address, or carries credentials.
    """

    def __init__(self, location: Location, *, endpoint_url: str | None, deadline: Deadline) -> None:
        self.location = location
        self.endpoint = endpoint_url or "AWS"
        self.deadline = deadline
        if endpoint_url is not None:
            _check_endpoint(endpoint_url)
        config = Config(
            connect_timeout=min(CONNECT_TIMEOUT_S, deadline.seconds),
            read_timeout=min(READ_TIMEOUT_S, deadline.seconds),
            retries={"total_max_attempts": 1},
            max_pool_connections=MAX_CONNECTIONS,
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # Other stores ignore or refuse them; Content-MD5 and sha256 do the work here.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.session.Session()
            self.client: Any = session.client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=session.region_name or "us-east-1",
                config=config,
            )
        except (BotoCoreError, ValueError) as err:
            raise StoreError(
                f"{location} at {self.endpoint}: expected settings that boto3 can use, found: "
                f"{err} Correct the AWS_* variables, the profile or --endpoint-url."
            ) from err

    def call(self, what: str, key: str, function: Callable[[], Result]) -> Result:
        """Return what `function`, which talks to the store, returns; try again where that may help.

        Args:
            what: To do with it, for messages: "read".
            key: Of the object.
            function: Done anew at each try.

        Raises:
            MissingObjectError: There is no such object.
            PreconditionError: A condition of the request does not hold.
            DeadlineError: Time is up.
            StoreError: Anything else.
        """
        place = f"s3://{self.location.bucket}/{key}"
        self.deadline.doing = f"{place} at {self.endpoint}, to {what} it"
        attempt = 0
        while True:
            self.deadline.check()
            attempt += 1
            try:
                return function()
            except ClientError as err:
                failure, retried = self._answered(place, what, err), _is_retried(err)
            except BotoCoreError as err:
                retried = isinstance(err, _UNANSWERED)
                failure = self._unanswered(place, what, err, retried)
            if not retried or attempt == ATTEMPTS:
                raise failure
            self.deadline.sleep(random.uniform(0, FIRST_WAIT_S * 2 ** (attempt - 1)))

    def _answered(self, place: str, what: str, err: ClientError) -> StoreError:
        response: Mapping[str, Any] = err.response
        meta = response.get("ResponseMetadata", {})
        status = int(meta.get("HTTPStatusCode", 0))
        code = str(response.get("Error", {}).get("Code") or status)
        if code in ("NoSuchKey", "NoSuchUpload") or (status == 404 and code in ("404", "NotFound")):
            failure: StoreError = MissingObjectError(f"{place}: no such object.")
        elif status == 412:
            failure = PreconditionError(f"{place}: another one was there.")
        else:
            failure = StoreError(
                f"{place} at {self.endpoint}: expected to {what} it, "
                + describe_failure(code, status, meta.get("HTTPHeaders", {}), datetime.now(UTC))
            )
        failure.__cause__ = err
        return failure

    def _unanswered(self, place: str, what: str, err: BotoCoreError, retried: bool) -> StoreError:
        if _is_name_unknown(err):
            found = (
                "found no address for that host name. Check --endpoint-url or S3_ENDPOINT_URL, "
                "the region and the network."
            )
        elif "Credential" in type(err).__name__:
            found = (
                f"found no usable credentials ({type(err).__name__}). Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )
        elif not retried:
            found = f"found: {err} Correct the AWS_* variables or the address."
        else:
            found = (
                f"found no answer in {ATTEMPTS} tries ({type(err).__name__}). Check "
                "--endpoint-url or S3_ENDPOINT_URL, and whether the server runs."
            )
        failure = StoreError(f"{place} at {self.endpoint}: expected to {what} it, {found}")
        failure.__cause__ = err
        return failure


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise StoreError(
            "--endpoint-url: expected an address without user and password, found one with them. "
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StoreError(
            f"--endpoint-url: expected http://host:port or https://host, found {url!r:.100}. "
            "Correct it."
        )


def _is_retried(err: ClientError) -> bool:
    status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status in _RETRIED_STATUS or err.response.get("Error", {}).get("Code") in _RETRIED_CODES


def _is_name_unknown(err: BaseException | None) -> bool:
    """Whether somewhere behind an error a host's name could not be looked up."""
    seen: set[int] = set()
    while err is not None and id(err) not in seen:
        seen.add(id(err))
        if isinstance(err, socket.gaierror) or type(err).__name__ == "NameResolutionError":
            return True
        err = getattr(err, "kwargs", {}).get("error") or err.__cause__ or err.__context__
    return False
