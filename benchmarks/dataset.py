"""Input pipelines, against MindSpore's own and torch's DataLoader, in rows a second.

    python benchmarks/dataset.py --mindspore-python PYTHON --torch-python PYTHON

Images: a folder of JPEG files -> random crop, decoded and resized to 224 x 224 -> flip -> normalize
-> batches of 32 in channels-first Float32. Digits: MNIST's files -> two linear maps of the values
-> channels first -> batches of 32. Python: a source in Python that takes about half a millisecond
for a row, in two worker processes. Arrays: one whose rows are Float32 of (3, 224, 224), likewise.

Each contestant is a process of its own python. A turn goes through some epochs, and the clock runs
from the first batch to the last, so that neither the start of workers nor rows made ahead in other
contestants' turns count. Turns alternate between contestants; the first of each does not count. On
a machine that does other things too, look at the time of processors, that of workers included.

    --size N        images; rows of the sources in Python are 4 N, digits 32 N
    --epochs N      of a turn
    --turns N       that count, of which the median is shown
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import record

BATCH, SIDE, WORKERS = 32, 224, 2
LINEAR = ((1 / 255, 0.0), (1 / 0.3081, -0.1307 / 0.3081))
MEAN, DEVIATION = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)


class Rows:
    """Rows that take a while: Python's own work, then some of numpy's."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, index: int) -> Any:
        import numpy as np

        total = 0
        for i in range(8000):
            total += i ^ index
        return np.full((64, 64), total % 251, np.float32), np.int32(index % 10)

    def __len__(self) -> int:
        return self.count


class Arrays(Rows):
    """Rows that are large and soon made."""

    def __getitem__(self, index: int) -> Any:
        import numpy as np

        return np.full((3, 224, 224), index % 251, np.float32), np.int32(index % 10)


SOURCES = {"python": Rows, "arrays": Arrays}


class Prepared:
    """The transforms of an image by Pillow and numpy, where a peer has none of its own."""

    def __init__(self, rng: Any = None) -> None:
        self.rng = rng

    def seeded(self, rng: Any) -> Prepared:
        return Prepared(rng)

    def __call__(self, data: Any) -> Any:
        import io

        import numpy as np
        from PIL import Image

        rng = self.rng or np.random
        image = Image.open(io.BytesIO(data.tobytes()))
        width, height = image.size
        area = width * height * rng.uniform(0.08, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w = min(width, max(1, round(np.sqrt(area * ratio))))
        h = min(height, max(1, round(np.sqrt(area / ratio))))
        x, y = int(rng.uniform(0, width - w + 1)), int(rng.uniform(0, height - h + 1))
        box = (x, y, x + w, y + h)
        image = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
        array = np.asarray(image)
        if rng.uniform() < 0.5:
            array = array[:, ::-1]
        array = (array - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        return np.ascontiguousarray(array.transpose(2, 0, 1), np.float32)


def _mindspore_like(ds: Any, kind: str, folder: str, count: int) -> Any:
    if kind in SOURCES:
        source = ds.GeneratorDataset(SOURCES[kind](count), ["x", "y"], num_parallel_workers=WORKERS)
        return source.batch(BATCH)
    if kind == "digits":
        digits = ds.MnistDataset(folder, num_parallel_workers=WORKERS)
        maps = [ds.vision.Rescale(*each) for each in LINEAR]
        digits = digits.map([*maps, ds.vision.HWC2CHW()], "image", num_parallel_workers=WORKERS)
        digits = digits.map(ds.transforms.TypeCast("int32"), "label", num_parallel_workers=WORKERS)
        return digits.batch(BATCH)
    data = ds.ImageFolderDataset(folder, shuffle=True, num_parallel_workers=WORKERS)
    try:
        vision = ds.vision
    except AttributeError:
        transforms: list[Any] = [Prepared()]
    else:
        transforms = [
            vision.RandomCropDecodeResize(SIDE),
            vision.RandomHorizontalFlip(),
            vision.Normalize(list(MEAN), list(DEVIATION)),
            vision.HWC2CHW(),
        ]
    return data.map(transforms, "image", num_parallel_workers=WORKERS).batch(BATCH)


Begin = Callable[[int], Iterator[Any]]


def _epochs_of(data: Any) -> Begin:
    def begin(epochs: int) -> Iterator[Any]:
        iterator = data.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
        for _ in range(epochs):
            yield from iterator

    return begin


def paramesh(kind: str, folder: str, count: int) -> Begin:
    import paramesh.dataset as ds

    return _epochs_of(_mindspore_like(ds, kind, folder, count))


def mindspore(kind: str, folder: str, count: int) -> Begin:
    import mindspore.dataset as ds

    ds.config.set_numa_enable(False)
    return _epochs_of(_mindspore_like(ds, kind, folder, count))


def torch(kind: str, folder: str, count: int) -> Begin:
    import numpy as np
    from torch.utils.data import DataLoader

    class Images:
        def __init__(self) -> None:
            names = sorted(os.listdir(folder))
            self.files = [
                (os.path.join(folder, name, file), label)
                for label, name in enumerate(names)
                for file in os.listdir(os.path.join(folder, name))
            ]
            self.prepared = Prepared()

        def __getitem__(self, index: int) -> Any:
            path, label = self.files[index]
            return self.prepared(np.fromfile(path, np.uint8)), label

        def __len__(self) -> int:
            return len(self.files)

    class Digits:
        def __init__(self) -> None:
            images = np.fromfile(os.path.join(folder, "train-images-idx3-ubyte"), np.uint8)
            self.images = images[16:].reshape(-1, 28, 28)
            self.labels = np.fromfile(os.path.join(folder, "train-labels-idx1-ubyte"), np.uint8)[8:]

        def __getitem__(self, index: int) -> Any:
            image = self.images[index].astype(np.float32)
            for factor, shift in LINEAR:
                image = image * np.float32(factor) + np.float32(shift)
            return image[None], np.int32(self.labels[index])

        def __len__(self) -> int:
            return len(self.images)

    sources: dict[str, Any] = {"images": Images, "digits": Digits}
    source = sources[kind]() if kind in sources else SOURCES[kind](count)
    loader = DataLoader(source, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)

    def begin(epochs: int) -> Iterator[Any]:
        for _ in range(epochs):
            yield from loader

    return begin


KINDS = ["images", "digits", "python", "arrays"]
CONTESTANTS = {"paramesh": paramesh, "mindspore": mindspore, "torch": torch}


def contestant(name: str, kind: str, folder: str, count: int) -> None:
    """In a process of its own: a turn for each line of stdin, its rows and seconds to stdout."""
    begin = CONTESTANTS[name](kind, folder, count)
    for line in sys.stdin:
        rows, start, spent = 0, 0.0, 0.0
        for batch in begin(int(line)):
            if start:
                rows += len(batch[0])
            else:
                start, spent = time.perf_counter(), processor_seconds()
        seconds = time.perf_counter() - start
        print(json.dumps([rows, seconds, processor_seconds() - spent]), flush=True)


def processor_seconds() -> float:
    """What this process and those that it has started, ended ones too, have used."""
    total = sum(os.times()[:4])
    mine = {os.getpid()}
    for path in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda p: int(p.parent.name)):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) in mine:
            mine.add(int(path.parent.name))
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def write_images(folder: Path, count: int) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        target = folder / f"class{i % 4}" / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (25, 33, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((500, 375)).save(target, quality=90)


def write_digits(folder: Path, count: int) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    header = np.array([2051, count, 28, 28], ">i4").tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    header = np.array([2049, count], ">i4").tobytes()
    (folder / "train-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def measure(
    pythons: dict[str, str], kind: str, folder: str, count: int, epochs: int, turns: int
) -> None:
    from harness import Console, Table

    running = {
        name: subprocess.Popen(
            [python, __file__, "--contestant", name, kind, folder, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name, python in pythons.items()
    }  # fmt: skip
    speeds: dict[str, list[float]] = {name: [] for name in running}
    costs: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(turns + 1):
        for name, process in running.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{epochs}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith("["):
                line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} ended: exit code {process.wait()}")
            rows, seconds, spent = json.loads(line)
            if turn:
                speeds[name].append(rows / seconds)
                costs[name].append(spent / rows * 1000)
    for process in running.values():
        process.kill()
        process.wait()
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    best = max(medians.values())
    unit = "images a second" if kind == "images" else "rows a second"
    table = Table("pipeline", unit, "of the fastest", "ms of processor for each", title=kind)
    for name, speed in sorted(medians.items(), key=lambda item: -item[1]):
        table.add_row(
            name, f"{speed:,.0f}", f"{speed / best:.2f}", f"{statistics.median(costs[name]):.3f}"
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mindspore-python", help="a python that has MindSpore")
    parser.add_argument("--torch-python", help="a python that has torch, if this one has not")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        name, kind, folder, count = arguments.contestant
        contestant(name, kind, folder, int(count))
        return
    pythons = {"paramesh": sys.executable}
    if arguments.mindspore_python:
        pythons["mindspore"] = arguments.mindspore_python
    if arguments.torch_python or importlib.util.find_spec("torch"):
        pythons["torch"] = arguments.torch_python or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kind or KINDS:
            files = Path(folder) / kind
            files.mkdir()
            if kind == "images":
                write_images(files, arguments.size)
            if kind == "digits":
                write_digits(files, 32 * arguments.size)
            measure(
                pythons, kind, str(files), 4 * arguments.size, arguments.epochs, arguments.turns
            )


if __name__ == "__main__":
    record.run(main)
