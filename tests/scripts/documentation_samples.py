"""The samples of MindSpore's documentation that are tried: their data, arguments and processes.

They are those of r1.2 in `mindspore-ai/docs`, whose one with parameter servers is text on a page;
the first sample of that in a file is of r2.3.0. Sizes are small; nothing of a sample is edited.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from environments import without_virtual_devices
from scripts import made_data

_CODE = "docs-r1.2/tutorials/tutorial_code"
#: The process that counts is the last one; the others have to end well, too.
_SERVERS = ("MS_SCHED", "MS_PSERVER", "MS_PSERVER", "MS_WORKER")


@dataclass(frozen=True)
class Sample:
    """One sample.

    Args:
        name: its folder or file.
        script: in that folder; the file itself if empty.
        arguments: of the script; {data} is the folder of its data.
        data: {folder: what writes the data into it}; "data" stands beside the sample.
        says: what its output has.
        module: run as the argument of this module (`pytest`).
        devices: how many virtual ones there are.
        environment: variables.
        roles: MS_ROLE of each process; empty: there is one process.
        beside: {name: a folder of the repositories that it finds beside itself by this name}.
        code: the folder of the samples, below the folder of repositories.
    """

    name: str
    script: str = ""
    arguments: str = ""
    data: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    says: str = ""
    module: str = ""
    devices: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    code: str = _CODE

    @property
    def path(self) -> str:
        """Its name in the page's table."""
        return "/".join(filter(None, (self.name, self.script)))

    def folder(self, repositories: Path) -> Path:
        """The sample's folder, or the folder of its file."""
        return repositories / self.code / self.name if self.script else repositories / self.code


def _digits(count: int = 640) -> Callable[[Path], None]:
    return lambda folder: made_data.mnist(folder, count, tests=64)


def _colours(count: int) -> Callable[[Path], None]:
    return lambda folder: made_data.cifar10(folder, count)


_FIRST, _SECOND = (f"high_order_differentiation/{order}_order" for order in ("first", "second"))
SAMPLES = [
    Sample("linear_regression.py", says="epoch: 1 step: 100, loss is"),
    # It loads the checkpoint of its 1,875th step.
    Sample("lenet", "lenet.py", data={"MNIST_Data": _digits(60_000)}, says="Accuracy:"),
    Sample("debug_in_pynative_mode", "01_single_op.py", says="]]]]"),
    Sample("debug_in_pynative_mode", "02_single_function.py", says="[3. 3. 3.]"),
    Sample("debug_in_pynative_mode", "03_staging.py", says="[3. 3. 3. 3.]"),
    Sample("debug_in_pynative_mode", "04_staging_2.py", says="[2. 2. 2. 2.]"),
    Sample("debug_in_pynative_mode", "05_staging_3.py", says="]]]]"),
    Sample("debug_in_pynative_mode", "06_grad.py", says="value= 2"),
    Sample("debug_in_pynative_mode", "07_lenet.py"),
    Sample(_FIRST, "first_order_input.py", says="4.5"),
    Sample(_FIRST, "first_order_sense.py", says="2.211"),
    Sample(_FIRST, "first_order_single.py", says="0.11"),
    Sample(_FIRST, "first_order_weight.py", says="2.1535"),
    Sample(_SECOND, "single_in_single_out.py", says="-0.841470"),
    Sample(_SECOND, "single_in_multiple_out.py", says="[2. 2. 2.]"),
    Sample(_SECOND, "multiple_in_multiple_out.py", says="[10.] [8.] [8.] [0.]"),
    Sample(
        "mixed_precision",
        "mixed_precision.py",
        data={"datasets/MNIST_Data": _digits()},
        says="====Accuracy====:",
    ),
    # It exports the checkpoint of its 1,875th step.
    Sample("save_model", "save_model.py", data={"datasets/MNIST_Data": _digits(60_000)}),
    Sample(
        "evaluate_the_model_during_training",
        "evaluate_the_model_during_training.py",
        data={"datasets/MNIST_Data": _digits()},
        says="{'Accuracy':",
    ),
    Sample(
        "gradient_accumulation",
        "train.py",
        "--data_path={data}",
        data={"data": _digits()},
        says="epoch: 10 step: 5 loss is",
        beside={"model_zoo": "models-r1.2"},
    ),
    Sample("debugging_info", "custom_metrics.py", says="'F1_score':"),
    Sample("debugging_info", "custom_callback.py", says="epoch:"),
    Sample(
        "custom_debugging_info",
        "custom_debugging_info.py",
        data={"datasets/MNIST_Data": _digits()},
        says="Accuracy:",
    ),
    Sample(
        "cache",
        "my_training_script.py",
        "--dataset_path={data}",
        data={"data": _colours(160)},
        says="Got 4 samples on device 0",
    ),
    Sample(
        "resnet",
        "cifar_resnet50.py",
        "--dataset_path={data} --batch_size=4",
        data={"data": _colours(20)},
        says="epoch: 1 step: 5, loss is",
        environment={"DEVICE_ID": "0"},
    ),
    Sample(
        "distributed_training",
        "resnet50_distributed_training.py",
        "-s",
        data={"data": _colours(70)},  # a batch of 32 for each of the two ranks
        says="epoch: 10 step: 1, loss is",
        module="pytest",
        devices=2,
        environment={"DEVICE_ID": "0", "DATA_PATH": "{data}"},
    ),
    Sample(
        "distributed_inference",
        "distributed_training.py",
        "-s",
        module="pytest",
        devices=8,
        environment={"RANK_ID": "0"},
    ),
    Sample(
        "parameter_server",
        "train.py",
        data={"data": _digits()},
        says="epoch: 9, step: 10, loss is",
        environment={"DATA_PATH": "{data}/train"},
        roles=_SERVERS,
        code="docs-r2.3/docs/sample_code",
    ),
]


@dataclass(frozen=True)
class Result:
    """What became of a sample: exit codes of its processes, and the output of the last one."""

    codes: list[int]
    output: str


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(sample: Sample, repositories: Path, place: Path) -> Result:
    """Run a sample in a copy of its folder, with `paramesh run`.

    Args:
        sample: which.
        repositories: the folder of repositories.
        place: an empty folder.
    """
    source, work = sample.folder(repositories), place / "sample"
    if sample.script:
        shutil.copytree(source, work)
    else:
        work.mkdir()
        shutil.copy(source / sample.name, work)
    for name, other in sample.beside.items():
        (work / name).symlink_to(repositories.resolve() / other)
    data = place / "data"
    for folder, write in sample.data.items():
        write(data if folder == "data" else work / folder)
    command = [sys.executable, "-m", "paramesh", "run"]
    command += ["-m", sample.module] if sample.module else []
    command += [sample.script or sample.name, *sample.arguments.format(data=data).split()]
    variables = without_virtual_devices()
    # A process of a sample may change this machine's settings of its own.
    variables |= {key: value.format(data=data) for key, value in sample.environment.items()}
    if sample.devices > 1:
        flag = f"--xla_force_host_platform_device_count={sample.devices}"
        variables["XLA_FLAGS"] = f"{variables['XLA_FLAGS']} {flag}".strip()
    if not sample.roles:
        done = subprocess.run(
            command, cwd=work, env=variables, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return Result([done.returncode], done.stdout)
    variables |= {
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": str(_free_port()),
        "MS_SERVER_NUM": str(sample.roles.count("MS_PSERVER")),
        "MS_WORKER_NUM": str(sample.roles.count("MS_WORKER")),
    }
    running = [
        subprocess.Popen(
            command, cwd=work, env=variables | {"MS_ROLE": role},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for role in sample.roles
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in reversed(running)]
    return Result([process.wait() for process in running], outputs[0])
