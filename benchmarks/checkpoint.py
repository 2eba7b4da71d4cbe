"""How fast checkpoints are written and read, beside safetensors, torch, orbax and MindSpore.

Run `python benchmarks/checkpoint.py [--megabytes N] [--tensors N ...] [--rounds N] [--only KEY ...]
[--folder PATH] [--no-fsync] [--mindspore-python PATH] [--json FILE]`. Every contestant saves the
same Float32 values, reads them into a network of its own (safetensors and orbax: into new arrays),
and deletes the file; in turns, so that whatever else the machine does meets all alike. Numbers are
medians, in GB/s; files were just written, so that reading finds them in memory.

The folder is in /dev/shm where there is one: paramesh waits until a file is on the disk before it
gives it its name, the others but orbax do not, and on a disk that is what would be measured.
MindSpore runs in a process of its own, which waits while others have their turn. It does not wait
for the disk (no fsync); `--no-fsync` has paramesh not wait either, to compare like with like.

The last table is about `async_save`: how long the call takes, and how much longer the call and the
next training step take than a step alone, both in terms of a copy of the state in memory.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import harness
import record
from networks.contestants import Unavailable

WORKER = Path(__file__).parent / "networks" / "mindspore_files.py"
#: What the ratios of a contestant are to.
PEERS = {
    ("safetensors", "save"): "safetensors.numpy",
    ("safetensors", "load"): "torch",
    ("ckpt", "save"): "mindspore",
    ("ckpt", "load"): "mindspore",
}
Values = dict[str, np.ndarray[Any, Any]]


class Contestant(Protocol):
    """Something that saves values and loads them, built from the values."""

    version: str

    def save(self, path: Path) -> None:
        """Write all values."""
        ...

    def load(self, path: Path) -> None:
        """Read them, and wait until they are there."""
        ...


class Paramesh:
    """A Cell with one Parameter for each value; a fresh one to load into, without the recipes."""

    def __init__(self, values: Values, suffix: str) -> None:
        self.version = importlib.metadata.version("paramesh")
        self._suffix = suffix
        self._full, self._other = self._cell(values), self._cell(values)

    @staticmethod
    def _cell(values: Values) -> Any:
        from paramesh import nn
        from paramesh.parameter import Parameter
        from paramesh.tensor import Tensor

        cell = nn.Cell()
        for name, value in values.items():
            cell.insert_param_to_cell(name, Parameter(Tensor(value), name=name))
        return cell

    def save(self, path: Path) -> None:
        """Write all values."""
        from paramesh import save_checkpoint

        save_checkpoint(self._full, path.with_name(path.name + self._suffix))

    def load(self, path: Path) -> None:
        """Load them into the other Cell."""
        from paramesh import load_checkpoint

        load_checkpoint(path.with_name(path.name + self._suffix), self._other)
        for param in self._other.get_parameters():
            param._get().block_until_ready()


class Safetensors:
    """`safetensors.numpy`."""

    def __init__(self, values: Values) -> None:
        self._library = _imported("safetensors.numpy", "safetensors")
        self.version = importlib.metadata.version("safetensors")
        self._values = values

    def save(self, path: Path) -> None:
        """Write all values."""
        self._library.save_file(self._values, path)

    def load(self, path: Path) -> None:
        """Read them into arrays."""
        self._library.load_file(path)


class Torch:
    """`torch.save`, and `torch.load(mmap=True)` with one copy into a module."""

    def __init__(self, values: Values) -> None:
        self._torch = _imported("torch", "torch")
        self.version = importlib.metadata.version("torch")
        self._module, self._other = self._build(values), self._build(values)

    def _build(self, values: Values) -> Any:
        module = self._torch.nn.Module()
        for name, value in values.items():
            tensor = self._torch.from_numpy(value.copy())
            module.register_parameter(name, self._torch.nn.Parameter(tensor))
        return module

    def save(self, path: Path) -> None:
        """Write all values."""
        self._torch.save(self._module.state_dict(), path)

    def load(self, path: Path) -> None:
        """Load them into the other module."""
        self._other.load_state_dict(self._torch.load(path, mmap=True, weights_only=True))


class Orbax:
    """orbax's StandardCheckpointer, waited for."""

    def __init__(self, values: Values) -> None:
        self._library = _imported("orbax.checkpoint", "orbax-checkpoint")
        import jax

        self.version = importlib.metadata.version("orbax-checkpoint")
        self._values = {name: jax.device_put(value) for name, value in values.items()}
        self._about = {
            name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=value.sharding)
            for name, value in self._values.items()
        }

    def save(self, path: Path) -> None:
        """Write all values."""
        with self._library.StandardCheckpointer() as writer:
            writer.save(path, self._values)
            writer.wait_until_finished()

    def load(self, path: Path) -> None:
        """Read them into arrays."""
        import jax

        with self._library.StandardCheckpointer() as reader:
            jax.block_until_ready(reader.restore(path, self._about))


CONTESTANTS: dict[str, tuple[str, Callable[[Values], Contestant]]] = {
    "safetensors": ("paramesh, safetensors", lambda values: Paramesh(values, ".safetensors")),
    "ckpt": ("paramesh, .ckpt", lambda values: Paramesh(values, ".ckpt")),
    "safetensors.numpy": ("safetensors.numpy", Safetensors),
    "torch": ("torch, mmap", Torch),
    "orbax": ("orbax", Orbax),
}


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Unavailable(f"not installed: pip install {package}") from None


def values_of(megabytes: float, tensors: int) -> Values:
    """Float32 values of this size (in 10^6 bytes) in so many tensors."""
    numbers = np.random.default_rng(0)
    each = max(1, round(megabytes * 1e6 / 4 / tensors))
    return {f"w{i}": numbers.random(each, np.float32) for i in range(tensors)}


@contextmanager
def folder(parent: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    shared = Path("/dev/shm")
    if parent is None and shared.is_dir():
        parent = shared
    with tempfile.TemporaryDirectory(prefix="paramesh-bench-", dir=parent) as made:
        yield Path(made)


def once(contestant: Contestant, place: Path) -> tuple[float, float]:
    """(seconds of a save, seconds of a load)."""
    path = place / "values"
    start = time.perf_counter()
    contestant.save(path)
    saved = time.perf_counter()
    contestant.load(path)
    loaded = time.perf_counter()
    for made in place.iterdir():
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    return saved - start, loaded - saved


class MindSpore:
    """MindSpore, in a process of its own."""

    def __init__(self, python: str | None, values: Values, place: Path) -> None:
        if python is None:
            raise Unavailable("not asked for: --mindspore-python names a python that has it")
        each = next(iter(values.values())).size
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER), str(len(values)), str(each), str(place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=place.parent,
            )
        except OSError as error:
            raise Unavailable(f"{python} does not start: {error.strerror}") from error
        self.version: str = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise Unavailable((errors.strip().splitlines() or ["it failed"])[-1][:80])
        return json.loads(line)

    def once(self) -> tuple[float, float]:
        """(seconds of a save, seconds of a load)."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        save, load = self._answer()
        return save, load

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def measured(values: Values, place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each contestant: GB/s of saving and loading, or why there are none."""
    nbytes = sum(value.nbytes for value in values.values())
    rows: dict[str, dict[str, Any]] = {}
    ready: dict[str, Contestant] = {}
    for key in options.only or CONTESTANTS:
        title, build = CONTESTANTS[key]
        rows[key] = {"key": key, "contestant": title, "tensors": len(values)}
        try:
            ready[key] = build(values)
            rows[key]["version"] = ready[key].version
        except Unavailable as reason:
            rows[key]["unavailable"] = str(reason)
    rows["mindspore"] = {
        "key": "mindspore",
        "contestant": "MindSpore, .ckpt",
        "tensors": len(values),
    }
    mindspore: MindSpore | None = None
    try:
        mindspore = MindSpore(options.mindspore_python, values, place)
        rows["mindspore"]["version"] = mindspore.version
    except Unavailable as reason:
        rows["mindspore"]["unavailable"] = str(reason)
    seconds: dict[str, list[tuple[float, float]]] = {key: [] for key in ready}
    if mindspore is not None:
        seconds["mindspore"] = []
    try:
        for number in range(options.rounds + 1):
            for key in seconds:
                if key == "mindspore":
                    assert mindspore is not None
                    taken = mindspore.once()
                else:
                    taken = once(ready[key], place)
                if number:  # the first is for warming up
                    seconds[key].append(taken)
    finally:
        if mindspore is not None:
            mindspore.close()
    for key, taken in seconds.items():
        for part, times in zip(("save", "load"), zip(*taken, strict=True), strict=True):
            middle = harness.median(times)
            rows[key][part] = nbytes / 1e9 / middle if middle else None
    for (key, part), peer in PEERS.items():
        if key in rows and peer in rows:
            rows[key][f"{part} ratio"] = harness.ratio(rows[key].get(part), rows[peer].get(part))
    return list(rows.values())


def stall(megabytes: float, tensors: int, place: Path, rounds: int) -> dict[str, Any]:
    """Seconds of a copy of the state, of a step, of the call, and of call and step together."""
    import jax

    from paramesh import jit, save_checkpoint

    values = values_of(megabytes, tensors)
    cell = Paramesh._cell(values)
    params = list(cell.get_parameters())

    def update() -> None:
        for param in params:
            param.assign(param * 0.999)

    compiled = jit(update)

    def step() -> None:
        compiled()
        jax.block_until_ready([param._get() for param in params])

    def timed(work: Callable[[], Any]) -> tuple[float, Any]:
        start = time.perf_counter()
        found = work()
        return time.perf_counter() - start, found

    target = {name: np.empty_like(value) for name, value in values.items()}

    def copy() -> None:
        for name, value in values.items():
            np.copyto(target[name], value)

    times: dict[str, list[float]] = {part: [] for part in ("copy", "step", "call", "both")}
    for number in range(rounds + 1):
        found = {"copy": timed(copy)[0]}
        step()
        found["step"] = timed(step)[0]
        found["call"], handle = timed(
            lambda: save_checkpoint(cell, place / "held", async_save=True)
        )
        found["both"] = found["call"] + timed(step)[0]
        handle.wait()
        if number:
            for part, taken in found.items():
                times[part].append(taken)
    return {part: harness.median(taken) for part, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=420.0, help="of 10^6 bytes")
    parser.add_argument("--tensors", type=int, nargs="+", default=[200, 20_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="KEY")
    parser.add_argument("--folder", type=Path, help="where files are written")
    parser.add_argument(
        "--no-fsync", action="store_true", help="paramesh does not wait for the disk"
    )
    parser.add_argument("--mindspore-python", metavar="PATH", help="a python that has MindSpore")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.no_fsync:
        os.fsync = lambda descriptor: None
    console = harness.console()
    results: list[dict[str, Any]] = []
    with folder(options.folder) as place:
        for tensors in options.tensors:
            rows = measured(values_of(options.megabytes, tensors), place, options)
            results += rows
            title = f"{options.megabytes:.0f} MB in {tensors} tensors"
            console.print(harness.save_and_load(title, rows))
        console.print(
            "Ratios: of safetensors, saving to safetensors.numpy and loading to torch; of .ckpt to "
            "MindSpore."
        )
        found = stall(options.megabytes, min(200, *options.tensors), place, options.rounds)
    results.append({"key": "async_save", **found})
    more = found["both"] - found["step"]
    lines = [
        ("a copy of the state", harness.shown(found["copy"], ".1f", 1e3), "1.00"),
        *(
            (title, harness.shown(taken, ".1f", 1e3), harness.shown(taken / found["copy"]))
            for title, taken in (("the call", found["call"]), ("call and step, less a step", more))
        ),
    ]
    console.print(harness.table("async_save", ["", "ms", "ratio"], lines))
    harness.write_json(options.json, "checkpoint", results)


if __name__ == "__main__":
    record.run(main, variants=["--no-fsync"])
