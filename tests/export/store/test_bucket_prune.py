"""Pruning a bucket, also while others publish to it and where it is killed.

Against moto's server, unless GATETABLE_TEST_S3=ceph asks for the other: a second Ceph beside that
of test_transfer.py, which prunes on Ceph too, would take longer to start than all of this to run.
GATETABLE_THOROUGH=1 interleaves and kills at 20 points and more instead of 2 or 3.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export.bundle import ORACLE_FILE
from export.store import bucket_prune, client, notices
from export.store.bucket_prune import BucketPruneConfig, BucketPruneResult, prune_bucket
from export.store.deadline import Deadline, run_all
from export.store.errors import DamageError, StoreError
from export.store.location import ArtifactKeys, parse_location
from export.store.s3 import Listing
from export.store.upload import UploadResult
from export.store.versions_command import prune_command
from tests.export.store.conftest import ROOT, MakeArtifact, Server, run_server
from tests.export.store.proxy import Proxy
from tests.export.store.test_transfer import (
    list_keys,
    list_uploads,
    open_store,
    pull,
    quiet,
    read_all,
    upload,
)

pytestmark = pytest.mark.slow

POINTS = 40 if os.environ.get("GATETABLE_THOROUGH") else 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = os.environ.get("GATETABLE_TEST_S3", "moto")
    with run_server(kind, tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(server: Server) -> str:
    server.client().create_bucket(Bucket="gatetable-prune")
    return "gatetable-prune"


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "POLL_S", 0.05)


def prune(address: str, endpoint: str, keep: int = 1, **changes: Any) -> BucketPruneResult:
    progress = changes.pop("progress", quiet)
    config = BucketPruneConfig(keep=keep, **{"grace_s": 0, **changes})
    return prune_bucket(open_store(address, endpoint), config, progress)


def keys_of(address: str) -> ArtifactKeys:
    return ArtifactKeys(parse_location(address).below("tiny"))


def put(server: Server, address: str, key: str, data: bytes, **metadata: str) -> None:
    place = parse_location(address)
    server.client().put_object(
        Bucket=place.bucket, Key=f"{place.prefix}/{key}", Body=data, Metadata=metadata
    )


def seed(server: Server, address: str, versions: Mapping[int, Iterable[bytes]]) -> None:
    """Put versions of these contents as uploads would, in a fraction of their requests."""
    for version, contents in versions.items():
        records = {}
        for content in contents:
            sha256 = hashlib.sha256(content).hexdigest()
            records[sha256[:8]] = {"bytes": len(content), "sha256": sha256}
            put(server, address, f"tiny/blobs/{sha256}", content, sha256=sha256)
        manifest = json.dumps({"name": "tiny", "version": version, "files": records}).encode()
        put(server, address, f"tiny/{version}/manifest.json", manifest)
    put(server, address, "tiny/latest", f"{max(versions)}\n".encode())


def list_files(server: Server, address: str) -> set[str]:
    """Return what lies there but for notices."""
    keys = list_keys(server, address)
    return {key for key in keys if not key.startswith(("tiny/claims/", "tiny/prunes/"))}


def check_whole(server: Server, address: str) -> None:
    """Check that nothing is missing that a listed version needs."""
    place, there = parse_location(address), list_files(server, address)
    client = server.client()
    for key in sorted(key for key in there if key.endswith("/manifest.json")):
        try:
            answer = client.get_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}")
        except client.exceptions.NoSuchKey:
            continue  # pruned since it was listed
        files = json.loads(answer["Body"].read())["files"]
        optional = {ORACLE_FILE}
        needed = {f"tiny/blobs/{files[name]['sha256']}" for name in files.keys() - optional}
        assert needed <= there, (key, needed - there)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def four(server: Server, address: str) -> str:
    """The address of versions 1 to 4; only 2 has a file that neither 3 nor 4 have."""
    seed(server, address, {1: [b"odd"], 2: [b"both", b"two"], 3: [b"odd"], 4: [b"both", b"four"]})
    return address


@pytest.mark.parametrize(
    ("keep", "latest", "claimed", "gone"),
    [
        (1, 4, [], [1, 2]),
        (3, 4, [], [1]),
        (9, 4, [], []),
        (1, 2, [], [3]),
        (1, 1, [], [2, 3]),
        (1, 4, [2], [1]),
    ],
)
def test_the_newest_the_one_in_use_the_one_below_it_and_claimed_ones_stay(
    keep: int, latest: int, claimed: list[int], gone: list[int]
) -> None:
    keys = keys_of("s3://bucket/team")
    state = bucket_prune._State(
        claimed=frozenset(map(keys.manifest, claimed)),
        latest=latest,
        listing=Listing(objects=[], asked=datetime.now(UTC)),
        versions=[1, 2, 3, 4],
    )
    assert bucket_prune._choose_versions(keys, state, keep) == gone


def test_versions_go_with_the_files_that_only_they_name(server: Server, four: str) -> None:
    before = list_keys(server, four)
    planned = prune(four, server.endpoint, dry_run=True)
    assert list_keys(server, four) == before
    done = prune(four, server.endpoint)
    assert done == planned
    assert (done.gone, done.left, done.place) == ([1, 2], [3, 4], f"{four}/tiny")
    assert (done.files, done.size, done.uploads, done.young) == (1, len(b"two"), 0, 0)
    gone = {"tiny/1/manifest.json", "tiny/2/manifest.json", f"tiny/blobs/{sha256_of(b'two')}"}
    assert set(list_keys(server, four)) == set(before) - gone  # and no notice is left
    again = prune(f"{four}/tiny", server.endpoint)
    assert (again.gone, again.files) == ([], 0)


def test_young_files_stay_until_they_are_old(server: Server, four: str) -> None:
    done = prune(four, server.endpoint, grace_s=3600)
    assert (done.gone, done.files, done.size, done.young) == ([1, 2], 0, 0, 1)
    assert prune(four, server.endpoint, grace_s=3600, dry_run=True).young == 1
    later = prune(four, server.endpoint)
    assert (later.gone, later.files, later.young) == ([], 1, 0)


def test_a_file_that_is_put_again_while_it_is_announced_is_young(
    server: Server, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = open_store(four, server.endpoint), keys_of(four).blob(sha256_of(b"two"))
    announce, listed = notices.announce, store.list_objects(keys_of(four).place.prefix)
    last = max(each.modified for each in listed.objects)
    time.sleep(1.1)  # a store's seconds may have no fractions
    monkeypatch.setattr(bucket_prune, "_start", lambda state, grace_s: last)

    def announce_late(*arguments: Any) -> Any:
        store.put(key, b"two", metadata={})  # by a program that claims nothing
        return announce(*arguments)

    monkeypatch.setattr(bucket_prune, "announce", announce_late)
    assert prune(four, server.endpoint).files == 0
    assert store.find(key) is not None


def test_signatures_go_with_their_versions_and_what_is_not_ours_stays(
    server: Server, address: str
) -> None:
    seed(server, address, {version: [b"same"] for version in (1, 2, 3)})
    store, keys = open_store(address, server.endpoint), keys_of(address)
    signatures = [
        keys.signature(sha256_of(store.read(keys.manifest(version), 10_000)[0]))
        for version in (1, 2, 3)
    ]
    for key in signatures:
        store.put(key, b"x" * 64, metadata={})
    foreign = {
        *("tiny/notes.txt", "tiny/blobs/notes.txt", "tiny/7/notes.txt", "tiny/signatures/x.sig"),
        f"blobs/{'0' * 64}",
        f"other/blobs/{'0' * 64}",
    }
    for key in foreign:
        put(server, address, key, b"x")
    done = prune(f"{address}/tiny", server.endpoint)
    assert (done.gone, done.left, done.files) == ([1], [2, 3], 1)
    assert foreign <= list_files(server, address)
    assert [store.find(key) is None for key in signatures] == [True, False, False]


def test_unfinished_uploads_are_dropped_unless_somebody_is_at_them(
    server: Server, four: str
) -> None:
    place, keys = parse_location(four), keys_of(four)
    store = open_store(four, server.endpoint)
    claimed, outside = keys.blob("b" * 64), f"{keys.blobs}notes.txt"
    for key in (keys.blob("a" * 64), claimed, keys.blob(sha256_of(b"four")), outside):
        server.client().create_multipart_upload(Bucket=place.bucket, Key=key)
    claim = notices.make_claim(store, keys, frozenset({claimed}), quiet)
    assert prune(four, server.endpoint, dry_run=True).uploads == 2
    done = prune(four, server.endpoint)
    assert (done.uploads, done.files) == (2, 1)
    assert set(list_uploads(server, four)) == {claimed, outside}
    assert store.find(keys.blob(sha256_of(b"four"))) is not None
    claim.end()
    assert prune(four, server.endpoint).uploads == 1
    assert list_uploads(server, four) == [outside]


def test_a_claim_keeps_a_version_and_files_until_it_ends(server: Server, four: str) -> None:
    store, keys = open_store(four, server.endpoint), keys_of(four)
    file = keys.blob(sha256_of(b"two"))
    claim = notices.make_claim(store, keys, frozenset({keys.manifest(1), file}), quiet)
    assert prune(four, server.endpoint).gone == [2]
    assert store.find(keys.manifest(1)) is not None
    assert store.find(file) is not None
    claim.check()
    claim.end()
    done = prune(four, server.endpoint)
    assert (done.gone, done.files) == ([1], 1)


def test_an_upload_without_its_claim_publishes_nothing(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    folder, keys = make_artifact(), keys_of(address)

    def remove(what: str, done: int, total: int) -> None:
        if what == "publishing":
            store = open_store(address, server.endpoint)
            for entry in store.list_objects(keys.claims).objects:
                store.delete(entry.key)

    with pytest.raises(
        StoreError, match=r"claims/\w+: expected this upload's claim to hold .*gone"
    ):
        upload(folder, address, server.endpoint, progress=remove)
    assert "tiny/1/manifest.json" not in list_keys(server, address)
    assert upload(folder, address, server.endpoint).is_new


def test_an_upload_waits_while_what_it_needs_is_deleted(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    folder = make_artifact(run="two")
    upload(folder, address, server.endpoint)
    again = make_artifact(run="two")
    store, keys = open_store(address, server.endpoint), keys_of(address)
    file = keys.blob(sha256_of(b"graph of two"))
    notices.announce(store, keys, {keys.blob("0" * 64)})  # nothing that is needed
    announcement = notices.announce(store, keys, {file})
    waiting, ended = threading.Event(), threading.Event()
    results: list[UploadResult] = []

    def show(what: str, done: int, total: int) -> None:
        if what == "waiting for a prune":
            waiting.set()
        assert what not in ("looking", "sending") or ended.is_set()

    thread = threading.Thread(
        target=lambda: results.append(upload(again, address, server.endpoint, progress=show))
    )
    thread.start()
    assert waiting.wait(30)
    store.delete(file)
    ended.set()
    announcement.end()
    thread.join(30)
    assert [(result.is_new, result.sent_files) for result in results] == [(True, 1)]
    check_whole(server, address)


def test_a_wait_ends_at_the_deadline(
    server: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "POLL_S", 100.0)  # the next look would be behind the deadline
    store, keys = open_store(address, server.endpoint), keys_of(address)
    notices.announce(store, keys, {keys.manifest(1)})
    with pytest.raises(StoreError, match="to wait for a prune that deletes what this upload needs"):
        notices.make_claim(store, keys, frozenset({keys.manifest(1)}), quiet)


def choose_points(requests: int) -> list[int]:
    """Return requests of a command to do something at, evenly spread."""
    return sorted({1 + at * requests // (POINTS + 1) for at in range(1, POINTS + 1)})


@pytest.fixture
def reviving(server: Server, make_artifact: MakeArtifact) -> tuple[Path, Callable[[str], None]]:
    """A version to publish, and what seeds a bucket where a prune deletes all of its files."""
    folder = [make_artifact(run=run) for run in ("", "", "", "odd")][3]
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]

    def seed_bucket(address: str) -> None:
        seed(server, address, {1: contents, 2: [b"two"], 3: [b"three"]})

    return folder, seed_bucket


def test_a_prune_at_any_request_of_an_upload_takes_nothing_from_it(
    server: Server,
    bucket: str,
    proxy: Proxy,
    reviving: tuple[Path, Callable[[str], None]],
    tmp_path: Path,
) -> None:
    folder, seed_bucket = reviving
    seed_bucket(f"s3://{bucket}/at-0")
    upload(folder, f"s3://{bucket}/at-0", proxy.endpoint)
    for point in choose_points(len(proxy.requests)):
        address = f"s3://{bucket}/at-{point}"
        seed_bucket(address)
        proxy.requests.clear()
        pruned: list[BucketPruneResult] = []

        def run_prune(number: int, point: int = point, address: str = address) -> None:
            if number == point:
                pruned.append(prune(address, server.endpoint))  # noqa: B023  (in this turn)

        proxy.on_request = run_prune
        upload(folder, address, proxy.endpoint)
        proxy.on_request = lambda number: None
        assert [1 in result.gone for result in pruned] == [True], point
        there = tmp_path / f"there-{point}"
        assert read_all(pull(address, there, server.endpoint).folder) == read_all(folder)


def test_an_upload_at_any_request_of_a_prune_loses_nothing(
    server: Server,
    bucket: str,
    proxy: Proxy,
    reviving: tuple[Path, Callable[[str], None]],
    tmp_path: Path,
) -> None:
    folder, seed_bucket = reviving
    seed_bucket(f"s3://{bucket}/during-0")
    prune(f"s3://{bucket}/during-0", proxy.endpoint)
    for point in choose_points(len(proxy.requests)):
        address = f"s3://{bucket}/during-{point}"
        seed_bucket(address)
        proxy.requests.clear()
        # The prune is held up until the upload has ended, or waits for the prune.
        uploading = Upload(folder, address, server.endpoint)

        def run_upload(number: int, point: int = point, uploading: Upload = uploading) -> None:
            if number == point:
                uploading.start()
                assert uploading.held.wait(30)

        proxy.on_request = run_upload
        prune(address, proxy.endpoint)
        proxy.on_request = lambda number: None
        uploading.join(30)
        there = tmp_path / f"there-{point}"
        assert read_all(pull(address, there, server.endpoint).folder) == read_all(folder)


class Upload(threading.Thread):
    """An upload that tells when it has ended or waits for a prune."""

    def __init__(self, folder: Path, address: str, endpoint: str) -> None:
        super().__init__(daemon=True)
        self.held = threading.Event()
        self._arguments = (folder, address, endpoint)

    def run(self) -> None:
        upload(*self._arguments, progress=self._show)
        self.held.set()

    def _show(self, what: str, done: int, total: int) -> None:
        if what == "waiting for a prune":
            self.held.set()


def test_publishers_and_pruners_at_once_leave_every_version_whole(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    # Files come and go: each is needed by some versions only, and taken up again by later ones.
    rng = random.Random(0)
    folders = [make_artifact(run=rng.choice("abc")) for _ in range(2 * POINTS + 1)]
    upload(folders[0], address, server.endpoint)
    published = threading.Event()

    def publish(mine: list[Path]) -> None:
        for folder in mine:
            upload(folder, address, server.endpoint)
            check_whole(server, address)

    def publish_all() -> None:
        try:
            run_all([lambda at=at: publish(folders[at::2]) for at in (1, 2)], 2, Deadline(100))
        finally:
            published.set()

    def prune_often() -> None:
        while not published.is_set():
            prune(address, server.endpoint, 1)

    run_all([publish_all, prune_often], 2, Deadline(100))
    check_whole(server, address)
    result = pull(address, tmp_path / "there", server.endpoint)
    assert read_all(result.folder) == read_all(folders[-1])


def kill_prune_at(proxy: Proxy, address: str, number: int) -> int:
    """Run the command in a child and kill -9 it when its request `number` arrives at the proxy."""
    proxy.requests.clear()
    code = "from export.store.versions_command import prune_command as run; run()"
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", code, address, "--keep", "1", "--grace-hours", "0"),
            *("--endpoint-url", proxy.endpoint),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy.on_request = lambda at: child.send_signal(signal.SIGKILL) if at == number else None
    child.wait(120)
    proxy.on_request = lambda at: None
    return child.returncode


def test_a_killed_prune_leaves_every_version_whole_and_the_next_one_ends_it(
    server: Server, bucket: str, proxy: Proxy
) -> None:
    versions = {version: [b"same", str(version).encode()] for version in range(1, 7)}
    seed(server, f"s3://{bucket}/kill-0", versions)
    prune(f"s3://{bucket}/kill-0", proxy.endpoint)
    after = set(list_keys(server, f"s3://{bucket}/kill-0"))
    # Between the first thing that is deleted and the last is what is worth being killed at.
    deletes = [at for at, line in enumerate(proxy.requests, 1) if line.startswith("DELETE")]
    turns = max(2, POINTS // 2)
    for turn in range(turns):
        address = f"s3://{bucket}/kill-{turn + 1}"
        seed(server, address, versions)
        number = deletes[1] + turn * (deletes[-2] - deletes[1]) // (turns - 1)
        assert kill_prune_at(proxy, address, number) == -signal.SIGKILL
        check_whole(server, address)
        assert set(list_keys(server, address)) - after, number
        assert prune(address, server.endpoint).left == [5, 6], number
        assert list_files(server, address) == after, number


def test_a_delete_that_had_to_be_sent_again_leaves_its_notice(
    server: Server, proxy: Proxy, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.001)
    cut: list[str] = []

    def cut_once(number: int) -> None:
        line = proxy.requests[number - 1]
        if line.startswith("DELETE") and "manifest.json" in line and not cut:
            cut.append(line)
            raise ConnectionError("cut, as a test asked")

    proxy.on_request = cut_once
    assert prune(four, proxy.endpoint).gone == [1, 2]
    assert cut
    store, keys = open_store(four, server.endpoint), keys_of(four)
    (left,), _ = notices.read_notices(store, keys.prunes)
    assert left.keys == {keys.manifest(1), keys.manifest(2)}


def test_what_cannot_be_read_stops_everything(server: Server, four: str) -> None:
    store, keys = open_store(four, server.endpoint), keys_of(four)
    good = store.read(keys.manifest(3), 10_000)[0]
    put(server, four, "tiny/3/manifest.json", b"{}")
    before = list_keys(server, four)
    with pytest.raises(DamageError, match="tiny/3/manifest.json: expected an artifact's manifest"):
        prune(four, server.endpoint)
    assert list_keys(server, four) == before
    put(server, four, "tiny/3/manifest.json", good)
    put(server, four, "tiny/claims/x", b"{}")
    message = r"tiny/claims/x: expected the notice of an upload .* \(KeyError\)\. Delete it once"
    with pytest.raises(DamageError, match=message):
        prune(four, server.endpoint)
    store.delete(f"{keys.claims}x")
    assert list_keys(server, four) == before
    # One that goes anyway may be damaged.
    put(server, four, "tiny/1/manifest.json", b"{}")
    assert prune(four, server.endpoint).gone == [1, 2]


def test_what_is_found_wrong_once_it_was_announced_ends_the_announcement(
    server: Server, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce = notices.announce

    def announce_late(*arguments: Any) -> Any:
        put(server, four, "tiny/latest", b"x")
        return announce(*arguments)

    monkeypatch.setattr(bucket_prune, "announce", announce_late)
    before = list_keys(server, four)
    with pytest.raises(DamageError, match="expected the number of a version, found 'x'"):
        prune(four, server.endpoint)
    assert list_keys(server, four) == before


def test_an_announcement_is_not_acted_upon_late(
    server: Server, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "PRUNE_S", -1.0)
    message = r"tiny/prunes/\w+: expected to delete what was announced there within -1 s, found 0 s"
    with pytest.raises(StoreError, match=message):
        prune(four, server.endpoint)
    assert "tiny/1/manifest.json" in list_keys(server, four)


def test_without_a_pointer_nothing_is_deleted(server: Server, four: str) -> None:
    put(server, four, "tiny/latest", b"9\n")
    before = list_keys(server, four)
    message = r"tiny/latest: expected one of the versions 1, 2, 3, 4, found 9\. Upload one of them"
    with pytest.raises(StoreError, match=message):
        prune(four, server.endpoint)
    assert list_keys(server, four) == before
    open_store(four, server.endpoint).delete(keys_of(four).latest)
    with pytest.raises(StoreError, match="expected one artifact, found none"):
        prune(f"{four}/tiny", server.endpoint)


def test_what_makes_no_sense_is_refused(server: Server, four: str) -> None:
    with pytest.raises(ValueError, match="keep: expected 1 or more, found 0."):
        prune(four, server.endpoint, 0)
    with pytest.raises(StoreError, match="expected the address of an artifact, found that of its"):
        prune(f"{four}/tiny/2", server.endpoint)


def test_a_pull_of_a_version_that_is_pruned_meanwhile_says_so(
    server: Server, proxy: Proxy, four: str, tmp_path: Path
) -> None:
    pruned: list[BucketPruneResult] = []

    def prune_once(number: int) -> None:
        if f"/blobs/{sha256_of(b'two')}" in proxy.requests[number - 1] and not pruned:
            pruned.append(prune(four, server.endpoint))

    proxy.on_request = prune_once
    with pytest.raises(StoreError, match=r"tiny/2: expected it to stay while it is fetched, found"):
        pull(f"{four}/tiny/2", tmp_path / "there", proxy.endpoint)
    assert not (tmp_path / "there" / "tiny" / "2").exists()


def test_the_command_says_what_it_did(server: Server, four: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(prune_command, arguments)
        return done.exit_code, done.output.lstrip("\n")

    place = (four, "--keep", "2", "--endpoint-url", server.endpoint)
    assert run(*place, "--dry-run", "--grace-hours", "0") == (
        0,
        f"{four}/tiny: would delete 1, 2; there are 1, 2, 3, 4.\n"
        "Would delete 1 files that no version names, 3 B, and 0 unfinished uploads.\n",
    )
    assert run(*place) == (
        0,
        f"{four}/tiny: deleted 1, 2; there remain 3, 4.\n"
        "Deleted 0 files that no version names, 0 B, and 0 unfinished uploads.\n"
        "1 more files that no version names are younger than 24 hours and stay until a later "
        "prune.\n",
    )
    code, output = run(str(tmp_path), "--keep", "2", "--grace-hours", "1")
    assert code == 2
    assert "--grace-hours: expected s3://bucket/prefix, found a folder." in output
