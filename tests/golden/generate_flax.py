"""Write `tests/golden/flax/`: states of flax's linen and nnx as `flax.serialization` writes them.

    pip install jax==0.10.2 flax==0.12.8
    python tests/golden/generate_flax.py

Files: `linen.msgpack` (variables with bfloat16 parameters and batch statistics), `nnx.msgpack` (the
pure dict of an nnx module), `train_state.msgpack` (with the state of optax's Adam), and
`kinds.msgpack` (element types, Python's numbers, lists, and arrays that are cut into chunks: flax
cuts at 1 GiB, here it is told to cut at 64 bytes). `values.npz` has the same arrays by their keys
joined by dots, as numpy sees them; bfloat16 and others of ml_dtypes as float32.
"""

from __future__ import annotations

import pathlib
from typing import Any

import flax.linen as linen  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, serialization  # pyright: ignore
from flax.training.train_state import TrainState  # pyright: ignore[reportMissingImports]
from flax.traverse_util import flatten_dict  # pyright: ignore[reportMissingImports]

OUT = pathlib.Path(__file__).parent / "flax"


class Net(linen.Module):
    """A dense layer, a normalization and a layer in bfloat16."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """The last layer's output."""
        x = linen.BatchNorm(use_running_average=True)(linen.Dense(3)(x))
        return linen.Dense(2, param_dtype=jnp.bfloat16)(x)


def main() -> None:
    """Write the files."""
    OUT.mkdir(exist_ok=True)
    variables = Net().init(jax.random.key(0), jnp.ones((1, 4)))
    module = nnx.Sequential(
        nnx.Linear(4, 3, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(3, rngs=nnx.Rngs(0)),
        nnx.Linear(3, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
    )
    state = TrainState.create(apply_fn=Net().apply, params=variables["params"], tx=optax.adam(1e-3))
    trees: dict[str, Any] = {
        "linen": variables,
        "nnx": nnx.to_pure_dict(nnx.state(module)),
        "train_state": state,
    }
    kinds: dict[str, Any] = {
        "cut": np.arange(60, dtype=np.float32).reshape(3, 20),
        "complex": np.array([1 + 2j], np.complex64),
        "empty": np.zeros((0, 3), np.float32),
        "float8": jnp.ones(3, jnp.float8_e4m3fn),
        "bools": np.array([True, False]),
        "numpy number": np.int32(7),
        "list": [np.ones(1, np.int8), {"x": np.uint16(3)}],
        "python": {
            "complex": 1 + 2j,
            "int": -5,
            "float": 0.5,
            "bool": True,
            "str": "é",
            "no": None,
        },
    }
    values: dict[str, np.ndarray[Any, Any]] = {}
    for name, tree in (trees | {"kinds": kinds}).items():
        if name == "kinds":
            serialization.MAX_CHUNK_SIZE = 64
        (OUT / f"{name}.msgpack").write_bytes(serialization.to_bytes(tree))
        flat = flatten_dict(serialization.to_state_dict(tree), sep=".")
        for key, value in flat.items():
            if value is not None and not isinstance(value, str):
                array = np.asarray(value)
                custom = array.dtype.kind == "V" or array.dtype.name in ("bfloat16",)
                values[f"{name}/{key}"] = array.astype(np.float32) if custom else array
    np.savez(OUT / "values.npz", **values)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
