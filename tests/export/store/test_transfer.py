"""Upload and pull against a real S3 server: one file, so that one server serves them all.

GATETABLE_THOROUGH=1 kills uploads at 20 points instead of 4.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from export.bundle import ORACLE_FILE, BundleError, hash_file, read_artifact
from export.store.blobs import MIB
from export.store.deadline import Deadline, run_all
from export.store.errors import ConflictError, DamageError, SignatureError, StoreError
from export.store.listing import list_bucket
from export.store.location import ArtifactKeys, Location, parse_location
from export.store.pull import PullResult, pull_artifact
from export.store.remote import find_latest, move_latest
from export.store.s3 import ObjectStore
from export.store.signing import load_public_keys, make_keys
from export.store.signing_command import load_signing_key
from export.store.upload import UploadConfig, UploadResult, upload_artifact
from tests.export.store.conftest import ROOT, MakeArtifact, Server
from tests.export.store.proxy import Proxy

pytestmark = pytest.mark.slow

POINTS = 20 if os.environ.get("GATETABLE_THOROUGH") else 4


def quiet(what: str, done: int, total: int) -> None:
    pass


def open_store(address: str, endpoint: str, seconds: float = 60) -> ObjectStore:
    # Loading boto3's description of S3 takes 0.2 s: once an endpoint, a connection pool shared.
    store = copy.copy(_load_store(endpoint))
    store.location, store.deadline = parse_location(address), Deadline(seconds)
    return store


@functools.cache
def _load_store(endpoint: str) -> ObjectStore:
    return ObjectStore(Location("bucket"), endpoint_url=endpoint, deadline=Deadline(60))


def upload(folder: Path, address: str, endpoint: str, **changes: Any) -> UploadResult:
    progress = changes.pop("progress", quiet)
    config = UploadConfig(
        folder=folder, location=parse_location(address), part_bytes=5 * MIB, **changes
    )
    return upload_artifact(open_store(address, endpoint), config, progress)


def pull(address: str, artifacts: Path, endpoint: str, **changes: Any) -> PullResult:
    return pull_artifact(open_store(address, endpoint), artifacts, quiet, **changes)


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def list_keys(server: Server, address: str) -> list[str]:
    place = parse_location(address)
    answer = server.client().list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)
    return [entry["Key"][len(place.prefix) + 1 :] for entry in answer.get("Contents", [])]


def list_uploads(server: Server, address: str) -> list[str]:
    place = parse_location(address)
    answer = server.client().list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)
    return [entry["Key"] for entry in answer.get("Uploads", [])]


def run_command(
    command: str, *arguments: str, endpoint: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process, without what `python -m export` imports beside it."""
    module = "versions_command" if command == "prune" else "transfer_command"
    code = f"from export.store.{module} import {command}_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "S3_ENDPOINT_URL": endpoint, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_artifact_comes_back_byte_for_byte(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path, large_content: bytes
) -> None:
    folder = make_artifact(large=large_content)
    sent = upload(folder, address, server.endpoint)
    assert (sent.is_new, sent.is_latest, sent.is_signed) == (True, True, False)
    assert sent.place == f"{address}/tiny/1"
    assert sent.sent_files == sent.files < len(read_artifact(folder).manifest["files"]) + 1

    result = pull(address, tmp_path / "there", server.endpoint)
    assert result.folder == tmp_path / "there" / "tiny" / "1"
    assert (result.is_new, result.is_latest) == (True, True)
    assert read_all(result.folder) == read_all(folder)
    assert sorted(path.name for path in result.folder.parent.iterdir()) == [
        *(".pull.lock", ".versions.lock", "1", "history.jsonl", "latest")
    ]


def test_keys_are_contents_but_for_the_manifest_and_the_pointer(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    upload(make_artifact(), address, server.endpoint)
    named = [key for key in list_keys(server, address) if "/blobs/" not in key]
    # A claim is made anew by every upload, and ended by it: who uploads may not delete it.
    claims = [key for key in named if re.fullmatch("tiny/claims/[0-9a-f]{32}", key)]
    assert named == ["tiny/1/manifest.json", *claims, "tiny/latest"]
    assert len(claims) == 1


def test_uploading_again_sends_nothing_and_says_so(
    server: Server,
    address: str,
    proxy: Proxy,
    make_artifact: MakeArtifact,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)
    upload(folder, address, server.endpoint)
    again = upload(folder, address, proxy.endpoint)
    assert (again.is_new, again.sent_files, again.sent_bytes) == (False, 0, 0)
    assert [line for line in proxy.requests if not line.startswith(("GET", "HEAD"))] == []


def test_a_dry_run_changes_nothing(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    result = upload(make_artifact(), address, server.endpoint, dry_run=True)
    assert (result.is_new, result.sent_files, result.is_latest) == (True, result.files, None)
    assert list_keys(server, address) == []


def test_a_version_shares_the_files_of_another(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    upload(make_artifact(run="one"), address, server.endpoint)
    second = upload(make_artifact(run="two"), address, server.endpoint)
    assert (second.is_new, second.sent_files) == (True, 1)


def test_an_unfinished_upload_of_a_file_is_taken_up(
    server: Server,
    address: str,
    proxy: Proxy,
    make_artifact: MakeArtifact,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)
    record = read_artifact(folder).manifest["files"]["lookup/gate_table.npy"]
    place = parse_location(address)
    key = ArtifactKeys(place.below("tiny")).blob(record["sha256"])
    client = server.client()
    for begun in ("other bytes", "these bytes"):  # of two unfinished ones, the one that fits
        metadata = {"sha256": record["sha256"]}
        started = client.create_multipart_upload(Bucket=place.bucket, Key=key, Metadata=metadata)
        body = large_content[: 5 * MIB] if begun == "these bytes" else b"x" * 5 * MIB
        client.upload_part(
            Bucket=place.bucket, Key=key, UploadId=started["UploadId"], PartNumber=1, Body=body
        )
    upload(folder, address, proxy.endpoint)
    parts = [line for line in proxy.requests if line.startswith("PUT") and "partNumber=" in line]
    numbers = sorted(re.findall(r"partNumber=(\d+)", " ".join(parts)))
    assert numbers == ["2", "3"]
    assert list_uploads(server, address) == []


def kill_at(
    proxy: Proxy, arguments: list[str], number: int, command: str = "upload"
) -> subprocess.Popen[bytes]:
    """Run a command in a child and kill -9 it when its request `number` arrives at the proxy."""
    proxy.requests.clear()
    code = f"from export.store.transfer_command import {command}_command as run; run()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--endpoint-url", proxy.endpoint],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def kill(at: int) -> None:
        if at == number:
            child.send_signal(signal.SIGKILL)

    proxy.on_request = kill
    child.wait(120)
    proxy.on_request = lambda at: None
    return child


def test_a_killed_upload_is_finished_by_the_next_one(
    server: Server,
    address: str,
    proxy: Proxy,
    make_artifact: MakeArtifact,
    tmp_path: Path,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)
    upload(folder, address, proxy.endpoint)
    whole = len(proxy.requests)
    for point in range(POINTS):
        number = 2 + point * (whole - 2) // max(1, POINTS - 1)
        place = f"{address}/kill-{point}"
        arguments = [str(folder), place, "--part-mb", "5"]
        child = kill_at(proxy, arguments, min(number, whole - 1))
        assert child.returncode == -signal.SIGKILL, f"request {number} of {whole}"
        result = upload(folder, place, server.endpoint)
        assert result.is_latest, number
        assert list_uploads(server, place) == [], number
        there = tmp_path / f"there-{point}"
        assert read_all(pull(place, there, server.endpoint).folder) == read_all(folder), number


def test_a_killed_pull_publishes_nothing_and_goes_on_where_it_was(
    server: Server,
    address: str,
    proxy: Proxy,
    make_artifact: MakeArtifact,
    tmp_path: Path,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)
    upload(folder, address, server.endpoint)
    there = tmp_path / "there"
    kill_at(proxy, [address, "--to", str(there)], 12, command="pull")
    names = {path.name for path in (there / "tiny").iterdir()}
    assert "1" not in names and "latest" not in names
    result = pull(address, there, server.endpoint)
    assert read_all(result.folder) == read_all(folder)
    assert not list(result.folder.parent.glob(".pull-*"))


def test_a_pull_keeps_whole_files_and_beginnings_of_an_interrupted_one(
    server: Server,
    address: str,
    make_artifact: MakeArtifact,
    tmp_path: Path,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)
    upload(folder, address, server.endpoint)
    sha256 = hash_file(folder / "manifest.json")
    partial = tmp_path / "there" / "tiny" / f".pull-{sha256[:16]}"
    (partial / "lookup").mkdir(parents=True)
    (partial / "lookup" / ".gate_table.npy.part").write_bytes(large_content[: 10 * MIB])
    (partial / "labels.json").write_bytes((folder / "labels.json").read_bytes())
    (partial / "tokenizer.model").write_bytes(b"wrong")
    (partial / ".model.onnx.part").write_bytes(b"wrong, and longer than the file is in the end")
    (partial / "left over").write_bytes(b"of nothing")
    result = pull(address, tmp_path / "there", server.endpoint)
    assert read_all(result.folder) == read_all(folder)
    assert result.fetched_bytes < 2 * MIB


def test_cut_connections_are_tried_again_and_a_file_goes_on_where_it_was_cut(
    server: Server,
    address: str,
    proxy: Proxy,
    make_artifact: MakeArtifact,
    tmp_path: Path,
    large_content: bytes,
) -> None:
    folder = make_artifact(large=large_content)

    def cut(number: int) -> None:
        if number in (2, 9, 14, 24):
            raise ConnectionError("cut, as a test asked")

    proxy.on_request = cut
    assert upload(folder, address, proxy.endpoint).is_latest
    assert len(proxy.requests) > 24
    proxy.on_request = lambda number: None
    proxy.requests.clear()
    proxy.cut_at = 3 * MIB
    result = pull(address, tmp_path / "there", proxy.endpoint)
    assert proxy.cut_at is None
    assert read_all(result.folder) == read_all(folder)
    sha256 = read_artifact(folder).manifest["files"]["lookup/gate_table.npy"]["sha256"]
    assert sum(sha256 in line for line in proxy.requests) == 2


def test_of_sixteen_publishers_of_one_version_one_wins_and_the_others_say_so(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    folders = [make_artifact(below=f"p{at}", run=f"run {at}") for at in range(16)]
    together = threading.Barrier(16)
    won: list[UploadResult] = []
    lost: list[str] = []

    def wait(what: str, done: int, total: int) -> None:
        if what == "publishing":
            together.wait(60)

    def publish(folder: Path) -> None:
        try:
            won.append(upload(folder, address, server.endpoint, progress=wait))
        except ConflictError as err:
            lost.append(str(err))

    run_all([lambda each=each: publish(each) for each in folders], 16, Deadline(100))
    assert [result.is_new for result in won] == [True]
    assert len(lost) == 15
    assert all("expected no version 1 but this one" in text for text in lost)
    manifest = (
        server.client()
        .get_object(
            Bucket=parse_location(address).bucket,
            Key=f"{parse_location(address).prefix}/tiny/1/manifest.json",
        )["Body"]
        .read()
    )
    assert manifest in [(folder / "manifest.json").read_bytes() for folder in folders]


def test_those_who_publish_the_same_artifact_all_end_well_and_one_says_it_was_it(
    server: Server, address: str, make_artifact: MakeArtifact, large_content: bytes
) -> None:
    folder = make_artifact(large=large_content)
    results: list[UploadResult] = []
    tasks = [lambda: results.append(upload(folder, address, server.endpoint))] * 6
    run_all(tasks, 6, Deadline(100))
    assert Counter(result.is_new for result in results) == {True: 1, False: 5}
    assert list_uploads(server, address) == []


def test_the_command_tells_a_loser_what_to_do_with_exit_code_1(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    upload(make_artifact(run="one"), address, server.endpoint)
    other = make_artifact(below="elsewhere", run="two")
    done = run_command("upload", str(other), address, endpoint=server.endpoint)
    assert done.returncode == 1
    assert re.search(
        r"error: s3://.*/tiny/1: expected no version 1 but this one \(manifest sha256 "
        r"[0-9a-f]{12}\), found another that was published before \([0-9a-f]{12}\)\. It was left "
        r"as it is\. Pull it and export again to get the next version, or choose another prefix\.",
        done.stderr,
    )
    assert "Traceback" not in done.stderr


def replace_blob(server: Server, address: str, sha256: str, data: bytes) -> None:
    """Put other bytes where a file is, with the metadata of the file."""
    place = parse_location(address)
    server.client().put_object(
        Bucket=place.bucket,
        Key=ArtifactKeys(place.below("tiny")).blob(sha256),
        Body=data,
        Metadata={"sha256": sha256},
    )


def test_a_flipped_byte_is_refused_and_the_old_version_goes_on_serving(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    upload(make_artifact(run="one"), address, server.endpoint)
    pull(address, there, server.endpoint)
    folder = make_artifact(run="two")
    upload(folder, address, server.endpoint)
    good = (folder / "model.onnx").read_bytes()
    sha256 = read_artifact(folder).manifest["files"]["model.onnx"]["sha256"]
    replace_blob(server, address, sha256, good[:3] + bytes([good[3] ^ 1]) + good[4:])

    message = rf"blobs/{sha256}: expected sha256 {sha256} and 12 bytes, found [0-9a-f]{{64}}\. "
    with pytest.raises(DamageError, match=message + "Upload the artifact again with --read-back."):
        pull(address, there, server.endpoint)
    assert (there / "tiny" / "latest").read_text() == "1\n"
    assert not (there / "tiny" / "2").exists()
    read_artifact(there / "tiny" / "1")

    healed = upload(folder, address, server.endpoint, read_back=True)
    assert (healed.is_new, healed.sent_files) == (False, 1)
    assert read_all(pull(address, there, server.endpoint).folder) == read_all(folder)
    assert (there / "tiny" / "latest").read_text() == "2\n"


@pytest.mark.parametrize("change", ["cut", "grown", "gone"])
def test_a_file_of_another_length_or_none_is_refused(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path, change: str
) -> None:
    folder = make_artifact()
    upload(folder, address, server.endpoint)
    sha256 = read_artifact(folder).manifest["files"]["model.onnx"]["sha256"]
    if change == "gone":
        place = parse_location(address)
        key = ArtifactKeys(place.below("tiny")).blob(sha256)
        server.client().delete_object(Bucket=place.bucket, Key=key)
        message = "no such object. model.onnx of the artifact is it. Upload the artifact again."
    else:
        data = (folder / "model.onnx").read_bytes()
        replace_blob(server, address, sha256, data[:-1] if change == "cut" else data * 1000)
        message = r"and 12 bytes, found that of \d+ bytes or more"
    with pytest.raises(DamageError, match=message):
        pull(address, tmp_path / "there", server.endpoint)
    assert not (tmp_path / "there" / "tiny" / "1").exists()
    # Uploading again heals it: the store tells that it is not what was sent.
    assert upload(folder, address, server.endpoint).sent_files == 1
    pull(address, tmp_path / "there", server.endpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "expected 'tiny' version 1, found the manifest of 'other' version 1"),
        ({"version": 7}, "expected 'tiny' version 1, found the manifest of 'tiny' version 7"),
        ({"files": {"../../x": {"bytes": 1, "sha256": "0" * 64}}}, "expected relative paths"),
    ],
)
def test_a_manifest_that_does_not_belong_there_is_refused(
    server: Server,
    address: str,
    make_artifact: MakeArtifact,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    folder = make_artifact()
    upload(folder, address, server.endpoint)
    place = parse_location(address)
    manifest = {**json.loads((folder / "manifest.json").read_text()), **change}
    server.client().put_object(
        Bucket=place.bucket,
        Key=ArtifactKeys(place.below("tiny")).manifest(1),
        Body=json.dumps(manifest).encode(),
    )
    with pytest.raises(DamageError, match=message):
        pull(address, tmp_path / "there", server.endpoint)
    assert not (tmp_path / "there").exists()


def test_an_artifact_larger_than_allowed_is_refused_before_it_is_fetched(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    upload(make_artifact(), address, server.endpoint)
    with pytest.raises(StoreError, match="expected at most 10 bytes, found .* --max-gb"):
        pull(address, tmp_path / "there", server.endpoint, max_bytes=10)


def test_a_damaged_folder_is_not_sent(
    server: Server, address: str, make_artifact: MakeArtifact
) -> None:
    folder = make_artifact()
    (folder / "model.onnx").write_bytes(b"graph of ona")
    with pytest.raises(BundleError, match="model.onnx: expected sha256"):
        upload(folder, address, server.endpoint)
    assert list_keys(server, address) == []


def test_what_may_be_deleted_from_an_artifact_need_not_travel(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    folder = make_artifact()
    (folder / ORACLE_FILE).unlink()
    upload(folder, address, server.endpoint)
    result = pull(address, tmp_path / "there", server.endpoint)
    assert not (result.folder / ORACLE_FILE).exists()
    assert read_all(result.folder) == read_all(folder)


def test_what_lies_there_already_is_verified_or_refused(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    upload(make_artifact(run="one"), address, server.endpoint)
    there = tmp_path / "there"
    pull(address, there, server.endpoint)
    assert pull(address, there, server.endpoint).is_new is False
    (there / "tiny" / "1" / "model.onnx").write_bytes(b"graph of ona")
    with pytest.raises(DamageError, match="model.onnx: expected sha256 .* to pull it again."):
        pull(address, there, server.endpoint)
    other = make_artifact(below="other", run="two").parents[1]
    with pytest.raises(ConflictError, match="tiny/1: expected no version 1 but the one at s3://"):
        pull(address, other, server.endpoint)


def test_addresses_mean_what_is_there(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    for run in ("one", "two"):
        upload(make_artifact(run=run), address, server.endpoint)
    for tail, version in (("", 2), ("/tiny", 2), ("/tiny/latest", 2), ("/tiny/1", 1)):
        result = pull(address + tail, tmp_path / f"there{version}{len(tail)}", server.endpoint)
        assert result.folder.name == str(version), tail
    # A version asked for by number leaves `latest` alone where there is one.
    there = tmp_path / "there20"
    assert pull(f"{address}/tiny/1", there, server.endpoint).is_latest is False
    assert (there / "tiny" / "latest").read_text() == "2\n"
    for tail, message in (
        ("/none", "expected one artifact, found none. Upload one, or correct the address."),
        ("/none/latest", "expected a pointer to a version, found none."),
        ("/tiny/9", "expected one artifact, found none."),
    ):
        with pytest.raises(StoreError, match=message):
            pull(address + tail, tmp_path / "nothing", server.endpoint)


def test_latest_moves_forward_only_unless_told(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    first, second = make_artifact(run="one"), make_artifact(run="two")
    assert upload(second, address, server.endpoint).is_latest is True
    assert upload(first, address, server.endpoint).is_latest is False
    rows = list_bucket(open_store(address, server.endpoint), quiet)
    assert [(row.name, row.version, row.is_latest) for row in rows] == [
        ("tiny", 1, False),
        ("tiny", 2, True),
    ]
    assert rows == list_bucket(open_store(f"{address}/tiny", server.endpoint), quiet)
    there = tmp_path / "there"
    pull(address, there, server.endpoint)
    assert upload(first, address, server.endpoint, promote=True).is_latest is True
    assert pull(address, there, server.endpoint).is_latest is True
    assert (there / "tiny" / "latest").read_text() == "1\n"


def test_a_pointer_that_names_no_version_is_told_and_mended_by_a_promoting_upload(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    folder = make_artifact()
    upload(folder, address, server.endpoint)
    store = open_store(address, server.endpoint)
    keys = ArtifactKeys(parse_location(address).below("tiny"))
    store.put(keys.latest, b"../1", metadata={})
    message = r"tiny/latest: expected the number of a version, found '../1'. Upload an artifact a"
    with pytest.raises(DamageError, match=message):
        pull(f"{address}/tiny", tmp_path / "there", server.endpoint)
    with pytest.raises(DamageError, match=message):
        upload(folder, address, server.endpoint)
    assert upload(folder, address, server.endpoint, promote=True).is_latest is True
    assert find_latest(store, keys) == 1


def test_eight_that_move_latest_at_once_leave_the_highest(server: Server, address: str) -> None:
    keys = ArtifactKeys(parse_location(address).below("tiny"))
    moved: dict[int, bool] = {}

    def move(version: int) -> None:
        store = open_store(address, server.endpoint)
        moved[version] = move_latest(store, keys, version, back=False)

    run_all([lambda at=at: move(at) for at in range(1, 9)], 8, Deadline(60))
    assert find_latest(open_store(address, server.endpoint), keys) == 8
    assert moved[8]


def test_an_empty_place_has_nothing_to_list(server: Server, address: str) -> None:
    with pytest.raises(StoreError, match="expected artifacts, found none. Upload one"):
        list_bucket(open_store(address, server.endpoint), quiet)


def test_a_signature_is_asked_for_where_a_key_is_configured(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    keys = {path: load_public_keys(make_keys(path)) for path in (ours, theirs)}
    there = tmp_path / "there"
    folder = make_artifact()
    upload(folder, address, server.endpoint)
    with pytest.raises(SignatureError, match="tiny/1: expected a signature, .* found none."):
        pull(address, there, server.endpoint, public_keys=keys[ours])
    assert not there.exists()

    sign = load_signing_key(theirs)
    assert upload(folder, address, server.endpoint, make_signature=sign).is_signed
    with pytest.raises(SignatureError, match="expected the signature of one of 1 configured key"):
        pull(address, there, server.endpoint, public_keys=keys[ours])
    assert not there.exists()

    upload(folder, address, server.endpoint, make_signature=load_signing_key(ours))
    result = pull(address, there, server.endpoint, public_keys=keys[theirs] + keys[ours])
    assert result.is_signed
    # It travels on: from here, it is uploaded without a key.
    assert upload(result.folder, f"{address}/next", server.endpoint).is_signed
    assert pull(f"{address}/next", tmp_path / "on", server.endpoint, public_keys=keys[ours])


def only_ceph(server: Server) -> None:
    if server.kind != "ceph":
        pytest.skip("moto checks neither secrets nor clocks nor who may do what; install Ceph")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "found that the secret is not the access key's. Check AWS_SECRET_ACCESS_KEY",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "AKNOBODY"},
            "found that the access key is unknown there. Check AWS_ACCESS_KEY_ID.",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "AKREAD", "AWS_SECRET_ACCESS_KEY": "SKREAD"},
            "found that these credentials may not. docs/s3.md has the policy they need",
        ),
    ],
)
def test_credentials_that_do_not_fit_are_one_line_and_exit_code_2(
    server: Server,
    address: str,
    make_artifact: MakeArtifact,
    variables: dict[str, str],
    message: str,
) -> None:
    only_ceph(server)
    done = run_command(
        "upload", str(make_artifact()), address, endpoint=server.endpoint, **variables
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and message in lines[0]
    assert not any(value in done.stderr for value in variables.values())


def test_a_wrong_clock_is_told_apart(
    server: Server, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_ceph(server)
    import botocore.auth

    late = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: late)
    message = r"found that this machine's clock is .* the server's\. Set the clock"
    with pytest.raises(StoreError, match=message):
        pull(address, tmp_path / "there", server.endpoint)


def test_a_bucket_that_does_not_exist_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found no such bucket. Create it, or correct its name"):
        pull("s3://no-such-bucket/team", tmp_path / "there", server.endpoint)


def test_a_slow_server_is_left_at_the_deadline(
    server: Server, address: str, proxy: Proxy, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    upload(make_artifact(), address, server.endpoint)
    proxy.drip_s = 0.2
    done = run_command(
        "pull", address, "--to", str(tmp_path), "--deadline", "2", endpoint=proxy.endpoint
    )
    assert done.returncode == 2
    assert re.search(
        r"error: s3://.* to read it: expected an end within 2 s, found it still under way\. What "
        r"was finished is kept: run the command again, with a longer --deadline\.",
        done.stderr,
    )


def test_the_documented_policies_are_enough_and_no_more(
    server: Server, bucket: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    only_ceph(server)
    text = (ROOT / "docs" / "s3.md").read_text(encoding="utf-8")
    policies = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    publisher, reader, pruner = policies
    folder, *newer = [make_artifact(run=run) for run in ("one", "two", "three")]
    other = server.client("AKREAD", "SKREAD")

    def allow(policy: dict[str, Any]) -> None:
        filled = json.loads(
            json.dumps(policy).replace("BUCKET", bucket).replace("PREFIX", "policy/team")
        )
        for statement in filled["Statement"]:
            statement["Principal"] = {"AWS": ["arn:aws:iam:::user/read"]}
        server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(filled))

    variables = {"AWS_ACCESS_KEY_ID": "AKREAD", "AWS_SECRET_ACCESS_KEY": "SKREAD"}
    place = f"s3://{bucket}/policy/team"

    def run(command: str, *arguments: str) -> int:
        return run_command(command, *arguments, endpoint=server.endpoint, **variables).returncode

    try:
        allow(publisher)
        assert run("upload", str(folder), place) == 0
        assert run("upload", str(folder), f"s3://{bucket}/elsewhere") == 2
        with pytest.raises(other.exceptions.ClientError, match="AccessDenied"):
            other.delete_object(Bucket=bucket, Key="policy/team/tiny/latest")
        allow(reader)
        assert run("pull", place, "--to", str(tmp_path / "there")) == 0
        with pytest.raises(other.exceptions.ClientError, match="AccessDenied"):
            other.put_object(Bucket=bucket, Key="policy/team/tiny/latest", Body=b"9")
        allow(publisher)
        assert [run("upload", str(each), place) for each in newer] == [0, 0]
        server.client().create_multipart_upload(
            Bucket=bucket, Key=f"policy/team/tiny/blobs/{'0' * 64}"
        )
        assert run("prune", place, "--keep", "1", "--grace-hours", "0") == 2
        allow(pruner)
        assert run("prune", place, "--keep", "1", "--grace-hours", "0") == 0
        assert list_uploads(server, place) == []
        found = list_keys(server, place)
        assert "tiny/1/manifest.json" not in found and "tiny/3/manifest.json" in found
        assert not any(key.startswith("tiny/claims/") for key in found)
        # The one that was refused said what it would delete, and may not take that back.
        assert sum(key.startswith("tiny/prunes/") for key in found) == 1
        with pytest.raises(other.exceptions.ClientError, match="AccessDenied"):
            other.put_object(Bucket=bucket, Key="policy/team/tiny/latest", Body=b"9")
    finally:
        server.client().delete_bucket_policy(Bucket=bucket)


def test_the_commands_say_what_they_did(
    server: Server, address: str, make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    folder, there = make_artifact(), tmp_path / "there"
    asked: list[tuple[Callable[[], subprocess.CompletedProcess[str]], str]] = [
        (
            lambda: run_command("upload", str(folder), address, endpoint=server.endpoint),
            rf"Published {address}/tiny/1: sent \d+ of \d+ contents, .* of .*\.\n",
        ),
        (
            lambda: run_command("upload", str(folder), address, endpoint=server.endpoint),
            rf"{address}/tiny/1: already there, verified\.\n",
        ),
        (
            lambda: run_command("pull", address, "--to", str(there), endpoint=server.endpoint),
            rf"Published {there}/tiny/1: .*, .* of it fetched now, every sha256 checked\.\n",
        ),
    ]
    for run, text in asked:
        done = run()
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(text, done.stdout)
