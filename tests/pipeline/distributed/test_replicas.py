"""Trainings on several devices and processes: the weights of one, whatever is killed.

Everything here that starts TensorFlow with settings of its own does so in child processes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.distributed.cluster import Cluster, format_cluster
from pipeline.distributed.launcher import find_addresses
from pipeline.run_folder import load_model, read_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TOLERANCE = 1e-5
"""Sums of gradients in another order; seen: 3e-6 after 80 steps."""
SHAPE: dict[str, Any] = {"embed_dim": 8, "units": 6}
SETTINGS: dict[str, Any] = {
    "num_epochs": 4,
    "batch_size": 50,  # the last batch of an epoch is smaller, and of odd slices
    "learning_rate": 0.02,
    "num_predict": 2,
    "patience": 20,
    "label_smoothing": 0.1,
    "word_dropout": 0.1,
    "weight_averaging": 0.5,
    "class_weights": "balanced",
    "calibrate": False,
}
"""No dropout: each replica draws masks of its own, so nothing could be compared."""


@pytest.fixture(scope="module")
def reference(prepared: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of a single process."""
    from pipeline.train import train

    config = ModelConfig(vocab_size=prepared.vocab_size, num_classes=2, **SHAPE)
    return train(prepared, config, TrainConfig(**SETTINGS), tmp_path_factory.mktemp("runs"))


def check_same(run: Any, reference: Any) -> None:
    found, expected = (load_model(each).get_weights() for each in (run, reference))
    differences = [
        float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)
    ]
    assert max(differences) < TOLERANCE
    curves, expected_curves = (
        json.loads((each.folder / "history.json").read_text()) for each in (run, reference)
    )
    assert curves.keys() == expected_curves.keys()
    for name, values in expected_curves.items():
        assert curves[name] == pytest.approx(values, abs=1e-4), name
    assert run.metrics["test"] == pytest.approx(reference.metrics["test"], abs=1e-4)


MIRRORED = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import read_prepared
from pipeline.distributed.model import split_batches
from pipeline.distributed.replicas import start_replicas
from pipeline.train import train

data, runs, shape, settings, batches = Path(sys.argv[1]), Path(sys.argv[2]), *map(
    json.loads, sys.argv[3:]
)
replicas = start_replicas("auto", None)
assert replicas.count == 2 and replicas.is_chief

def give():
    for size in batches:
        yield np.arange(2 * size).reshape(size, 2) + 1, np.arange(size)

signature = (tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32))
stream = tf.data.Dataset.from_generator(give, output_signature=signature)
slices = []
for parts in split_batches(replicas.strategy, stream):
    local = [replicas.strategy.experimental_local_results(part) for part in parts]
    slices.append([[value.numpy().tolist() for value in part] for part in local])
data = read_prepared(data)
model = ModelConfig(vocab_size=data.vocab_size, num_classes=2, **shape)
run = train(data, model, TrainConfig(**settings), runs, replicas=replicas)
print(json.dumps({"run": str(run.folder), "slices": slices}))
"""


def test_devices_of_one_process_split_each_batch_and_train_as_one(
    prepared: PreparedData, reference: Any, tmp_path: Path
) -> None:
    batches = [50, 7, 3, 2, 1]
    arguments = [prepared.folder, tmp_path, *map(json.dumps, (SHAPE, SETTINGS, batches))]
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for size, (tokens, labels, is_row, num_rows) in zip(batches, result["slices"], strict=True):
        assert [len(part) for part in labels] == [-(-size // 2)] * 2
        assert num_rows == [size] * 2
        flat_labels, flat_tokens, real = np.concatenate(labels), np.concatenate(tokens), is_row
        kept = np.concatenate(real) == 1
        assert flat_labels[kept].tolist() == list(range(size))  # each row once, in order
        assert flat_tokens[kept].tolist() == [[2 * row + 1, 2 * row + 2] for row in range(size)]
        assert set(np.concatenate(real)[~kept]) <= {0.0}
    check_same(read_run(Path(result["run"])), reference)


@pytest.fixture
def command(prepared: PreparedData, tmp_path: Path) -> list[str]:
    flags = {**SHAPE, **SETTINGS, "embedding_dropout": 0, "head_dropout": 0, "vocab_size": 200}
    del flags["calibrate"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    table = str(prepared.folder.parents[1] / "pets.csv")
    options += ["--source", table, "--name", "together", "--no-calibrate"]
    options += ["--embedding-init", "random"]
    return [sys.executable, "-m", "pipeline", "train-workers", "-n", "2", *options]


def test_a_killed_worker_ends_the_others_and_the_rerun_gives_the_run_of_one_process(
    prepared: PreparedData, reference: Any, command: list[str], tmp_path: Path
) -> None:
    environment = {**os.environ, "GATETABLE_BUILD": str(tmp_path)}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    output = ""
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        assert process.stdout
        for line in process.stdout:
            output += line
            if "epoch  1/4" in line:
                victim = re.search(r"worker 2 \(process (\d+)\) is started", output)
                assert victim
                os.kill(int(victim[1]), 9)
        code = process.wait()
    assert code == 2, output
    assert "error: worker 2 (process " in output
    assert "found it ended with exit code -9 (SIGKILL); the others were ended too" in output
    assert "error: worker 1 of 2 (127.0.0.1:" in output
    assert "expected 2 workers until the end, found one of them gone" in output
    assert "Traceback" not in output

    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, **pipes)
    assert done.returncode == 0, done.stdout
    resumed = re.search(r"Resuming after epoch (\d) of 4", done.stdout)
    assert resumed and 1 <= int(resumed[1]) < 4
    runs = tmp_path / "runs"
    check_same(read_run(runs / "together"), reference)
    # The other worker wrote no run, and left nothing.
    assert sorted(path.name for path in runs.iterdir()) == [".together.lock", "latest", "together"]


def test_what_several_workers_cannot_use_is_refused(prepared: PreparedData) -> None:
    from pipeline.distributed.replicas import Replicas
    from pipeline.service.config import ServiceConfig
    from pipeline.train import train

    config = ModelConfig(vocab_size=prepared.vocab_size, num_classes=2, **SHAPE)
    message = (
        r"data_service: expected none where several workers train together, found "
        r"grpc://127\.0\.0\.1:5050: .* Leave out --data-service\."
    )
    with pytest.raises(ValueError, match=message):
        train(
            *(prepared, config, TrainConfig(**SETTINGS), Path("never")),
            service=ServiceConfig(address="grpc://127.0.0.1:5050"),
            replicas=Replicas(cluster=Cluster(addresses=("a:1", "b:1"), index=0)),
        )
    message = (
        r"jit_compile: expected auto or off where several devices train together, found on\. "
        r"Leave it out, or pass --strategy none\."
    )
    several: Any = object()  # looked at by nothing but `is None` until then
    with pytest.raises(ValueError, match=message):
        train(
            *(prepared, config, TrainConfig(**SETTINGS, jit_compile="on"), Path("never")),
            replicas=Replicas(several),
        )
    message = (
        r"pretrain_epochs: expected 0 where several devices train together, found 2\. "
        r"Leave it out, or pass --strategy none\."
    )
    with pytest.raises(ValueError, match=message):
        train(
            *(prepared, config, TrainConfig(**SETTINGS, pretrain_epochs=2), Path("never")),
            replicas=Replicas(several),
        )


def test_one_device_is_left_alone() -> None:
    from pipeline.distributed.replicas import Replicas, start_replicas

    for replicas in (Replicas(), start_replicas("none", None), start_replicas("auto", None)):
        assert (replicas.count, replicas.is_chief, replicas.strategy) == (1, True, None)
        assert replicas.agree(True) and not replicas.agree(False)
        replicas.wait()


def test_what_is_not_there_is_refused() -> None:
    from pipeline.distributed.replicas import start_replicas

    with pytest.raises(ValueError, match=r"strategy: expected at least 2 GPUs for mirrored, found"):
        start_replicas("mirrored", None)
    message = r"strategy: expected the variable TF_CONFIG to name at least 2 workers for"
    with pytest.raises(ValueError, match=message):
        start_replicas("multi_worker", None)


def test_a_worker_whose_others_never_come_is_ended_and_has_said_whom_it_waits_for() -> None:
    program = (
        "from pipeline.distributed import replicas; from pipeline.distributed.cluster import *; "
        "replicas.START_TIMEOUT_S = 1; replicas.start_replicas('auto', read_cluster())"
    )
    addresses = find_addresses(2)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": format_cluster(addresses, 0)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == -signal.SIGALRM, done.stderr
    assert (
        f"worker 1 of 2 ({addresses[0]}): waiting up to 1 s for all of {', '.join(addresses)}. "
        "Start `train` on each with the same TF_CONFIG but for the index; if this lasts, check "
        "host, port and firewall.\n"
    ) in done.stderr
