"""Everything that paramesh compiles, compiled for a GPU and for a TPU that are not there.

`make test-targets` installs both compilers. What they refuse, no test on a CPU would find.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import paramesh
from paramesh import Parameter, Tensor, communication, context, initializer, nn, ops
from paramesh.dtype import bfloat16, complex64, float16, float32, float64, int8, int32, int64
from paramesh.ops import ReduceOp
from paramesh.parallel.planning.placements import platform_of
from paramesh.parallel.planning.sent import sent_by
from paramesh.sampling import batched, slices
from paramesh.sampling import distribution as law
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.train import TrainOneStepCell, WithLossCell
from paramesh.transforms.stages import compiled_for_target
from target_programs import ALONE, TARGETS, compiled_for, devices_of

ROOT = Path(__file__).parent.parent.parent
X = np.ones((16, 64), np.float32)

pytestmark = pytest.mark.slow


@pytest.fixture(params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    devices_of(request.param)
    return request.param


@pytest.fixture
def _groups() -> Iterator[None]:
    context.set_auto_parallel_context(parallel_mode="hybrid_parallel", device_num=8)
    communication.init()
    communication.create_group("pairs", [[0, 1], [2, 3], [4, 5], [6, 7]])
    yield
    communication.release()


def kinds(stage: Any) -> set[str]:
    return {one.kind for one in sent_by(stage.as_text())}


# Training steps of the networks of benchmarks/.


@pytest.fixture(scope="module")
def networks() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from networks import definitions, of_paramesh

        yield definitions, of_paramesh
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("key", "ABCD")
@pytest.mark.parametrize("mode", ["planned", "stand_alone", "data_parallel"])
def test_networks_of_the_benchmarks(name: str, key: str, mode: str, networks: Any) -> None:
    definitions, of_paramesh = networks
    network = next(one for one in definitions._ALL if one.key == key)
    net = of_paramesh.CELLS[key](network)
    params = net.trainable_params()
    update = of_paramesh.optimizer(network, params)
    gradients = paramesh.value_and_grad(of_paramesh.loss_of(network, net), None, params)
    shapes: dict[str, tuple[Any, Any]] = {
        "A": (np.ones((32, 32), np.float32), np.ones((32, 32), np.float32)),
        "B": (np.ones((32, 1, 32, 32), np.float32), np.ones((32,), np.int32)),
        "C": (np.ones((8, 64), np.int32), np.ones((8, 64), np.int32)),
        "D": (np.ones((64, 2048), np.float32), np.ones((64, 2048), np.float32)),
    }

    @paramesh.jit
    def step(x: Any, y: Any) -> Any:
        loss, grads = gradients(x, y)
        update(grads)
        return loss

    if mode == "planned":
        plan = paramesh.plan(step, *map(Tensor, shapes[key]), target=name)
        assert plan.memory.total > 0
        assert plan.fits
        return
    on = devices_of(ALONE[name] if mode == "stand_alone" else name)
    stage = compiled_for(step, shapes[key], mode, on)
    assert stage.memory_analysis().argument_size_in_bytes > 0
    if mode == "data_parallel":
        assert sent_by(stage.as_text())


def test_positions_that_no_tile_divides(name: str) -> None:
    """The compiler of GPUs cannot divide some products of 197 positions into tiles."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from searched.unseen import vit
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    network = vit(1, 128, 2, 8, 224, 16, 16)
    place = jax.sharding.SingleDeviceSharding(devices_of(ALONE[name]).devices[0])
    weights, batch = jax.tree.map(
        lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=place),
        (network.weights, network.batch),
    )

    def gradients(weights: Any, batch: Any) -> Any:
        return jax.grad(lambda w: network.loss(w, batch, lambda kind, x: x))(weights)

    stage = compiled_for_target(jax.jit(gradients).lower(weights, batch))
    assert stage.as_text()


# Training steps of examples/. `movielens_ps.py` has its Parameters on servers, and those of
# `hybrid_embedding.py` have a value for each device, of which there is no plan.
EXAMPLES = {
    "functional_jax.py": ["250"],
    "gpt_semi_auto.py": ["100", "2", "4"],
    "lenet_digits.py": ["6"],
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples(name: str, example: str, tmp_path: Path) -> None:
    words = [str(ROOT / "examples" / example), "--target", name, "--json", "--"]
    done = subprocess.run(
        [sys.executable, "-m", "paramesh", "plan", *words, *EXAMPLES[example]],
        cwd=tmp_path,
        env=os.environ | {"PARAMESH_TARGETS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    assert found["memory"]["fits"]


# Recipes: each kind of initializer, in each way in which it is computed.

MAKERS: dict[str, Callable[[], Any]] = {
    "Zero": initializer.Zero,
    "One": initializer.One,
    "Constant": lambda: initializer.Constant(0.5),
    "Uniform": lambda: initializer.Uniform(0.1),
    "Normal": lambda: initializer.Normal(0.1, 0.0),
    "TruncatedNormal": lambda: initializer.TruncatedNormal(0.1, 0.0, -2.0, 2.0),
    "XavierUniform": initializer.XavierUniform,
    "XavierNormal": initializer.XavierNormal,
    "HeUniform": initializer.HeUniform,
    "HeNormal": initializer.HeNormal,
    "VarianceScaling": initializer.VarianceScaling,
    "Identity": initializer.Identity,
    "Sparse": lambda: initializer.Sparse(0.1),
    "Dirac": initializer.Dirac,
    "Orthogonal": initializer.Orthogonal,
    "BilinearLike": lambda: initializer.Normal(0.2),
}
DTYPES = (float32, bfloat16, float16, float64, int32, int8, int64, complex64)


class _Taken:
    """Replaces `compiled` of recipes: programs are compiled for devices that are not there."""

    def __init__(self, device: Any) -> None:
        self.sharding = jax.sharding.SingleDeviceSharding(device)
        self.count = 0

    def __call__(
        self, function: Callable[..., Any], platform: str, dtype: Any = None
    ) -> Callable[..., Any]:
        if platform == "tpu" and not law.computed_on(platform, dtype):
            return law.compiled(function, platform, dtype)  # on the host

        def run(*args: Any) -> Any:
            everywhere = self.sharding
            structs = [
                jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype, sharding=everywhere)
                for a in args
            ]
            jax.jit(function).lower(*structs).compile()
            self.count += 1
            return _like(function, structs)

        return run


def _like(function: Callable[..., Any], structs: list[Any]) -> Any:
    shape = jax.eval_shape(function, *[jax.ShapeDtypeStruct(s.shape, s.dtype) for s in structs])
    return np.zeros(shape.shape, shape.dtype)


@pytest.mark.parametrize("kind", [k for k in MAKERS if hasattr(initializer, k)])
def test_recipes(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices_of(ALONE[name]).devices[0]
    taken = _Taken(device)
    for module, programs in (
        (slices, (slices._slice_program, slices._sharded_program)),
        (batched, (batched._row_program,)),
    ):
        monkeypatch.setattr(module, "compiled", taken)
        monkeypatch.setattr(module, "default_platform", lambda: platform_of(device))
        for program in programs:
            program.cache_clear()
    try:
        init = MAKERS[kind]()
        shape = (16, 8, 3, 3) if kind == "Dirac" else (32, 16)
        dtypes = DTYPES if kind in ("Normal", "Uniform") else (float32, bfloat16)
        for dtype in dtypes:
            compute_many([Recipe(init, (1, 2), shape, dtype)])
        if kind not in ("Dirac", "Sparse", "Identity", "Orthogonal"):
            compute_many([Recipe(init, (1, 2), (512, 512), float32)])  # a program of its own
    finally:
        for program in (slices._slice_program, slices._sharded_program, batched._row_program):
            program.cache_clear()
    if kind in ("Uniform", "Normal", "TruncatedNormal", "XavierUniform", "HeNormal"):
        assert taken.count


@pytest.mark.parametrize("kind", ["Normal", "Uniform", "TruncatedNormal", "Identity"])
def test_recipes_in_slices_on_all_devices(name: str, kind: str) -> None:
    on = devices_of(name)
    mesh = Mesh(np.array(on.devices).reshape(2, 4), ("a", "b"))
    sharding = NamedSharding(mesh, PartitionSpec("a", "b"))
    recipe = Recipe(MAKERS[kind](), (1, 2), (1024, 512), float32)
    drawn = recipe._spec()
    if drawn is None:
        pytest.skip(f"{kind} has no distribution spec: its slices are taken from the full array")
    shape = sharding.shard_shape(recipe.shape)
    if drawn.elementwise:
        inner, _, strides = slices._collapse(recipe.shape, [0, 0], shape)
    else:
        inner, strides = shape, slices._strides(recipe.shape)
    whole = None if drawn.elementwise else recipe.shape
    place = slices._Place(inner, whole, True)
    program: Any = slices._sharded_program(drawn.sample_fn, place, shape, float32, sharding)
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.enable_x64(True):
        arguments = slices._arguments(drawn, recipe.key, float32, strides, inner)
        structs = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere) for a in arguments]
        stage = program.lower(*structs).compile()
    assert stage.memory_analysis().output_size_in_bytes == 1024 * 512 * 4 // 8


# Collectives of each mode.

COLLECTIVES: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{
        f"all_reduce {op}": (lambda x, op=op: ops.all_reduce(x, op), "all-reduce")
        for op in (ReduceOp.SUM, ReduceOp.MAX, ReduceOp.MIN)
    },
    "all_reduce prod": (lambda x: ops.all_reduce(x, ReduceOp.PROD), ""),
    "all_reduce pairs": (lambda x: ops.all_reduce(x, group="pairs"), "all-reduce"),
    "all_gather": (ops.all_gather, "all-gather"),
    "reduce_scatter": (ops.reduce_scatter, "reduce-scatter"),
    "all_to_all": (lambda x: ops.all_to_all(x, 8, 0, 1), "all-to-all"),
    "broadcast": (lambda x: ops.broadcast(x, 1), ""),
    "neighbor_exchange": (
        lambda x: ops.neighbor_exchange((x,), [tuple((*range(1, 8), 0))], [tuple((7, *range(7)))])[
            0
        ],
        "collective-permute",
    ),
}


@pytest.mark.usefixtures("_groups")
@pytest.mark.parametrize("which", COLLECTIVES)
def test_collectives_and_their_gradients(name: str, which: str) -> None:
    function, kind = COLLECTIVES[which]

    def program(x: Any) -> Any:
        return function(x), paramesh.grad(lambda x: (function(x) ** 2).sum())(x)

    stage = compiled_for(
        program, (np.ones((64, 16), np.float32),), "hybrid_parallel", devices_of(name)
    )
    # A TPU adds up small arrays in full, and takes its slice.
    assert not kind or kinds(stage) & {kind, "all-reduce"}


def wide_step(rule: Callable[[Any], Any] = lambda params: nn.Adam(params, 0.001)) -> Any:
    net = nn.SequentialCell(nn.Dense(64, 256), nn.ReLU(), nn.Dense(256, 64))
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), rule(net.trainable_params()))


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("data_parallel", {}),
        ("data_parallel", {"gradients_mean": True, "grad_accumulation_step": 2}),
        ("data_parallel", {"enable_parallel_optimizer": True}),
        ("data_parallel", {"comm_fusion": {"allreduce": {"mode": "size", "config": 1}}}),
        ("semi_auto_parallel", {}),
        ("semi_auto_parallel", {"enable_parallel_optimizer": True}),
    ],
)
def test_steps_of_each_mode(name: str, mode: str, settings: dict[str, Any]) -> None:
    context.set_auto_parallel_context(parallel_mode=mode, device_num=8, **settings)
    stage = compiled_for(wide_step()._program(), (X, X), mode, devices_of(name))
    assert "all-reduce" in kinds(stage) or "reduce-scatter" in kinds(stage)


def test_a_step_with_strategies(name: str) -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    step = wide_step()
    step.network.backbone_network[0].matmul.shard(((2, 1), (4, 1)))
    step.network.backbone_network[2].matmul.shard(((2, 4), (1, 4)))
    stage = compiled_for(step._program(), (X, X), "semi_auto_parallel", devices_of(name))
    assert "all-reduce" in kinds(stage)
    sizes = stage.memory_analysis()
    whole = 3 * 4 * (64 * 256 * 2 + 256 + 64)
    assert sizes.argument_size_in_bytes < 0.6 * whole  # with what a TPU adds to small arrays


# Pools: small Parameters that share an array.


@pytest.mark.parametrize("flat", ["never", "always"])
@pytest.mark.parametrize("mode", ["stand_alone", "data_parallel"])
def test_pools(name: str, flat: str, mode: str) -> None:
    context.set_context(flat_parameters=flat)
    if mode == "data_parallel":
        context.set_auto_parallel_context(parallel_mode=mode, device_num=8)
    net = nn.SequentialCell(*(nn.Dense(16, 16) for _ in range(24)))
    step = TrainOneStepCell(
        WithLossCell(net, nn.MSELoss()), nn.Momentum(net.trainable_params(), 0.01, 0.9)
    )
    x = np.ones((16, 16), np.float32)
    on = devices_of(ALONE[name] if mode == "stand_alone" else name)
    stage = compiled_for(step._program(), (x, x), mode, on)
    assert stage.memory_analysis().argument_size_in_bytes > 0


def test_random_numbers(name: str) -> None:
    net = nn.SequentialCell(nn.Dense(64, 64), nn.Dropout(p=0.5))
    net.set_train()
    stage = compiled_for(net._program(), (X,), "stand_alone", devices_of(ALONE[name]))
    assert stage.as_text()


def test_64_bits(name: str) -> None:
    weight = Parameter(Tensor(np.ones((8, 8)), float64), name="w")

    def program(x: Any) -> Any:
        weight.assign_value(weight + 1.0)
        return weight.value() * x

    on = devices_of(ALONE[name])
    assert compiled_for(program, (np.ones((8, 8)),), "stand_alone", on).as_text()
