"""Names and layouts of PyTorch and Flax: there and back for every layer, and the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layer_cases
from paramesh import nn
from paramesh.checkpoint.conversion import layer_kinds
from paramesh.checkpoint.conversion.arrangement import Arrangement, Flip, Split, Squeeze, Transpose
from paramesh.checkpoint.conversion.converter import assemble
from paramesh.checkpoint.conversion.layer_kinds import guess, kinds_of
from paramesh.checkpoint.conversion.name_plan import ConversionPlan, name_plan, plain_plan, renamed
from paramesh.checkpoint.conversion.name_rules import KIND_OF_LAYER, KINDS, LIBRARIES, members
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.tensor import Tensor

Arrays = dict[str, Any]


class Held:
    """Arrays in memory, as much of a Source as a conversion needs."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def entries(self) -> list[Entry]:
        return [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in self.arrays.items()]

    def entry(self, name: str) -> Entry:
        return Entry.of(name, storage_dtype(self.arrays[name].dtype), self.arrays[name].shape)

    def read(self, name: str) -> Any:
        return self.arrays[name]

    def read_flat(self, name: str, start: int, stop: int) -> Any:
        return self.arrays[name].reshape(-1)[start:stop]

    def forget(self) -> None:
        return


def converted(
    arrays: Arrays, library: str, back: bool = False, given: dict[str, str] | None = None
) -> tuple[Arrays, ConversionPlan]:
    held: Any = Held(arrays)
    plan = name_plan(held.entries(), library, back, given)
    return {p.entry.name: assemble(held, p)[0] for p in plan.arrays}, plan


def equal(first: Arrays, second: Arrays) -> bool:
    same = {
        n: a.dtype == second[n].dtype and np.array_equal(a, second[n]) for n, a in first.items()
    }
    return list(first) == list(second) and all(same.values())


EXTRA = [
    "nn.Conv2d(4, 6, 1)",
    "nn.Conv2d(4, 6, (1, 3), group=2)",
    "nn.Dense(6, 3, has_bias=False)",
    "nn.LSTM(6, 3, num_layers=2, bidirectional=True)",
    "nn.GRU(6, 3, has_bias=False)",
    "nn.MultiheadAttention(6, 2, kdim=4, vdim=5)",
    "nn.MultiheadAttention(6, 3, add_bias_kv=True, has_bias=False)",
    "nn.PReLU(1)",
    "nn.Conv1dTranspose(4, 6, 3, has_bias=True)",
]
#: Every layer that has parameters, alone and inside a network.
CODES = [
    code
    for code in (*(case.code for case in layer_cases.CASES), *EXTRA)
    if list(layer_cases.make(code).get_parameters())
]


class Around(nn.Cell):
    """A network that has a layer somewhere inside."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.inner = nn.CellList([nn.Dense(3, 3), layer])


def values(net: Any, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=param.shape).astype(np.float32)
        for name, param in net.parameters_dict().items()
    }


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("inside", [False, True])
def test_there_and_back_is_the_identity(code: str, library: str, inside: bool) -> None:
    net = layer_cases.make(code)
    net = Around(net) if inside else net
    arrays = values(net)
    theirs, there = converted(arrays, library, given=kinds_of(net))
    mine, back = converted(theirs, library, back=True, given=there.kinds)
    assert equal(arrays, mine)
    # What has no rule is as it was on both ways.
    assert all(np.array_equal(theirs[name], arrays[name]) for name in there.unknown)
    assert set(there.unknown) == set(back.unknown)


NO_RULES_FOR_FLAX = (
    "BiDense",
    "RNN",
    "LSTM",
    "GRU",
    "RNNCell",
    "LSTMCell",
    "GRUCell",
    "PReLU",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
)


@pytest.mark.parametrize("code", [case.code for case in layer_cases.CASES if case.code in CODES])
def test_every_layer_has_rules(code: str) -> None:
    net = Around(layer_cases.make(code))
    layer = code.removeprefix("nn.").partition("(")[0]
    assert not converted(values(net), "torch", given=kinds_of(net))[1].unknown
    unknown = converted(values(net), "flax", given=kinds_of(net))[1].unknown
    assert bool(unknown) == (layer in NO_RULES_FOR_FLAX)


def test_every_layer_with_parameters_has_a_kind() -> None:
    layers = {code.removeprefix("nn.").partition("(")[0] for code in CODES}
    # Made of other layers, or without a twin in the other libraries' naming rules.
    composed = {
        *("TransformerEncoderLayer", "TransformerDecoderLayer", "TransformerEncoder"),
        *("TransformerDecoder", "Transformer", "SyncBatchNorm", "Conv2dBnAct", "DenseBnAct"),
        *("Conv3dTranspose", "TimeDistributed"),
    }
    assert layers - composed <= set(KIND_OF_LAYER)
    assert set(KIND_OF_LAYER.values()) | {"PReLU1", "Conv1D"} == set(KINDS)
    assert set(KIND_OF_LAYER) <= set(nn.__all__)


class Net(nn.Cell):
    """What follows from names and shapes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.conv = nn.Conv2d(3, 4, 3, has_bias=True)
        self.bn = nn.BatchNorm2d(4)
        self.volume = nn.BatchNorm3d(4)
        self.block = nn.TransformerEncoderLayer(6, 2, 8)
        self.act = nn.PReLU(4)
        self.lstm = nn.LSTM(6, 3)
        self.head = nn.Dense(6, 2, has_bias=False)


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_alone_tell_most_kinds(library: str) -> None:
    net = Net()
    arrays = values(net)
    heads = {"*.self_attn": "MultiheadAttention:2"} if library == "flax" else {}
    theirs, _ = converted(arrays, library, given=heads)
    mine, _ = converted(theirs, library, back=True, given={"volume": "BatchNorm3d"})
    assert equal(arrays, mine)
    assert (
        guess(Held(arrays).entries(), "paramesh").items()
        >= {
            "embed": "Embedding",
            "conv": "Conv2d",
            "bn": "BatchNorm",
            "volume": "BatchNorm3d",
            "block.norm1": "LayerNorm",
            "act": "PReLU",
            "lstm": "Recurrent",
            "head": "Dense",
        }.items()
    )


def test_names_of_torch() -> None:
    theirs, plan = converted(values(Net()), "torch")
    assert not plan.unknown
    assert list(theirs)[:10] == [
        "embed.weight",
        "conv.weight",
        "conv.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.weight",
        "bn.bias",
        "volume.running_mean",
        "volume.running_var",
        "volume.weight",
    ]
    assert "block.linear1.weight" in theirs
    assert "block.self_attn.out_proj.bias" in theirs


def test_names_and_shapes_of_flax() -> None:
    theirs, plan = converted(
        values(Net()), "flax", given={"block.self_attn": "MultiheadAttention:3"}
    )
    shapes = {name: array.shape for name, array in theirs.items()}
    assert (
        shapes.items()
        >= {
            "embed.embedding": (10, 6),
            "conv.kernel": (3, 3, 3, 4),
            "bn.var": (4,),
            "bn.scale": (4,),
            "block.self_attn.query.kernel": (6, 3, 2),
            "block.self_attn.value.bias": (3, 2),
            "block.self_attn.out.kernel": (3, 2, 6),
            "block.dense1.kernel": (6, 8),
            "head.kernel": (6, 2),
        }.items()
    )
    assert plan.unknown["lstm.bias_ih_l0"].startswith("Flax's recurrent cells have one bias")
    assert plan.unknown["act.w"] == "PReLU has no such parameter in flax"


def test_attention_without_its_number_of_heads_is_not_split() -> None:
    arrays = values(nn.SequentialCell(nn.MultiheadAttention(6, 2)))
    theirs, plan = converted(arrays, "flax")
    assert equal(arrays, theirs)
    assert set(plan.unknown) == set(arrays)
    assert "number of heads is not known" in plan.unknown["0.in_proj_weight"]


def test_unknown_names_stay_and_are_listed() -> None:
    arrays = {"fc.weight": np.ones((2, 3)), "fc.scale_factor": np.ones(4), "step": np.array(3)}
    theirs, plan = converted(arrays, "flax")
    assert list(theirs) == ["fc.kernel", "fc.scale_factor", "step"]
    assert plan.unknown == {"fc.scale_factor": "no rule", "step": "no rule"}


def test_optimizer_state_follows_its_parameters() -> None:
    theirs, _ = converted({"moment1.fc.weight": np.ones((2, 3))}, "flax")
    assert {name: array.shape for name, array in theirs.items()} == {"moment1.fc.kernel": (3, 2)}


def test_norms_of_torch_without_bias_stay() -> None:
    arrays = {
        "ln_norm.weight": np.ones(4),
        "wte.weight": np.ones((5, 4)),
        "up.weight": np.ones((4, 4)),
    }
    mine, plan = converted(arrays, "torch", back=True)
    assert list(mine) == ["ln_norm.weight", "wte.embedding_table", "up.weight"]
    assert list(plan.unknown) == ["ln_norm.weight"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fc": "Dens"}, "There are no name rules for 'Dens'; there are Dense, BiDense"),
        ({"none": "Dense"}, "No layer 'none' has parameters of a Dense: none.weight, none.bias"),
        ({"fc": "MultiheadAttention:0"}, "the number of heads must be a positive integer"),
    ],
)
def test_given_kinds_that_cannot_be(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        converted({"fc.weight": np.ones((2, 3))}, "torch", given=given)


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match="name rules for torch and flax, not 'keras'"):
        name_plan([], "keras")
    clash = {"bn.gamma": np.ones(2), "bn.beta": np.ones(2), "bn.weight": np.ones(2)}
    with pytest.raises(ValueError, match=r"'bn\.gamma' and 'bn\.weight' would both be named"):
        converted(clash, "torch")
    plan = plain_plan(Held(clash).entries())
    with pytest.raises(ValueError, match=r"Two arrays would be named 'bn\.beta'"):
        renamed(plan, {"bn.gamma": "bn.beta"})
    wrong: Any = 3
    with pytest.raises(TypeError, match="kinds_of needs a Cell, got int"):
        kinds_of(wrong)


def test_a_shape_that_does_not_fit_its_kind_stays() -> None:
    arrays = {"a.weight": np.ones((4, 3, 2, 2))}
    theirs, plan = converted(arrays, "flax", given={"a": "Conv1d"})
    assert equal(arrays, theirs)
    assert plan.unknown["a.weight"].startswith("no Conv1d: ")


STEPS = [
    ((3, 4), Transpose((1, 0))),
    ((3, 4, 2), Transpose((2, 0, 1))),
    ((3, 1, 2), Squeeze(1)),
    ((3, 4, 2), Flip(2)),
    ((6, 4), Split(0, 2)),
    ((6, 4), Split(-1, 4)),
]


@given(st.sampled_from(STEPS))
def test_every_step_goes_back_to_the_same_memory(case: tuple[tuple[int, ...], Any]) -> None:
    shape, step = case
    array = np.arange(np.prod(shape)).reshape(shape)
    arrangement = Arrangement((step,))
    there = arrangement.there(array)
    assert arrangement.shape(shape) == there.shape
    assert arrangement.shape(there.shape, back=True) == shape
    fresh = np.empty_like(there, order="C")
    arrangement.back(fresh)[...] = array
    assert np.array_equal(fresh, there)
    assert np.array_equal(arrangement.back(there), array)


def test_members_of_a_kind_are_distinguished_by_name() -> None:
    assert [member.name for member in members("BatchNorm")][2:] == [
        "moving_mean",
        "moving_variance",
    ]
    assert [member.name for member in members("BatchNorm", "")][2:] == ["mean", "variance"]
    assert layer_kinds.by_prefix([Entry.of("a.b", storage_dtype(np.dtype("f4")), ())]).keys() == {
        "a"
    }


# Numbers: the layer of the other library, with the converted parameters, gives the same outputs.

_X = layer_cases.numbers(4, 6)
_IMAGES = layer_cases.numbers(2, 4, 5, 4)
_SEQUENCES = layer_cases.numbers(2, 4, 6)

TORCH = [
    ("nn.Dense(6, 3)", "Linear(6, 3)", _X),
    ("nn.Conv2d(4, 6, 3, pad_mode='valid', has_bias=True)", "Conv2d(4, 6, 3)", _IMAGES),
    ("nn.Conv1d(4, 6, 3, pad_mode='valid', has_bias=True)", "Conv1d(4, 6, 3)", _SEQUENCES),
    (
        "nn.Conv2dTranspose(4, 6, 3, stride=2, pad_mode='valid', has_bias=True)",
        "ConvTranspose2d(4, 6, 3, stride=2)",
        _IMAGES,
    ),
    ("nn.BatchNorm2d(4)", "BatchNorm2d(4)", _IMAGES),
    ("nn.LayerNorm((6,))", "LayerNorm(6)", _X),
    ("nn.GroupNorm(2, 4)", "GroupNorm(2, 4)", _IMAGES),
    ("nn.Embedding(10, 4)", "Embedding(10, 4)", np.array([[0, 3], [9, 1]], np.int32)),
    ("nn.LSTM(6, 3, num_layers=2, bidirectional=True)", None, _SEQUENCES),
    ("nn.GRU(6, 3)", None, _SEQUENCES),
    ("nn.RNN(6, 3)", None, _SEQUENCES),
    ("nn.PReLU(6)", "PReLU(6)", _X),
]


@pytest.mark.parametrize(("code", "other", "x"), TORCH, ids=[code for code, _, _ in TORCH])
def test_numbers_of_torch(code: str, other: str | None, x: Any) -> None:
    torch = pytest.importorskip("torch")
    net = layer_cases.make(code)
    arrays = {name: np.abs(array) for name, array in values(net).items()}
    theirs, _ = converted(arrays, "torch", given=kinds_of(net))
    written = (other or code.removeprefix("nn.")).replace("has_bias", "bias")
    layer = eval("torch.nn." + written, {"torch": torch}).eval()
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in theirs.items()})
    with torch.no_grad():
        given = torch.from_numpy(x) if x.dtype == np.float32 else torch.from_numpy(x).long()
        expected = layer(given)
    assert np.allclose(first(outputs(net, arrays, x)), first(expected), atol=2e-4)


FLAX = [
    ("nn.Dense(6, 3)", "Linear(6, 3, rngs=r)", _X, None),
    (
        "nn.Conv2d(4, 6, 3, pad_mode='valid', has_bias=True)",
        "Conv(4, 6, (3, 3), padding='VALID', rngs=r)",
        _IMAGES,
        (0, 2, 3, 1),
    ),
    (
        "nn.Conv1d(4, 6, 3, pad_mode='valid', has_bias=True)",
        "Conv(4, 6, (3,), padding='VALID', rngs=r)",
        _SEQUENCES,
        (0, 2, 1),
    ),
    (
        "nn.Conv2dTranspose(4, 6, 3, stride=2, pad_mode='valid', has_bias=True)",
        "ConvTranspose(4, 6, (3, 3), strides=(2, 2), padding='VALID', rngs=r)",
        _IMAGES,
        (0, 2, 3, 1),
    ),
    ("nn.BatchNorm2d(4)", "BatchNorm(4, use_running_average=True, rngs=r)", _IMAGES, (0, 2, 3, 1)),
    ("nn.LayerNorm((6,))", "LayerNorm(6, epsilon=1e-5, rngs=r)", _X, None),
    ("nn.Embedding(10, 4)", "Embed(10, 4, rngs=r)", np.array([[0, 3], [9, 1]], np.int32), None),
    (
        "nn.MultiheadAttention(6, 2, batch_first=True)",
        "MultiHeadAttention(2, 6, decode=False, rngs=r)",
        _SEQUENCES,
        None,
    ),
    ("nn.PReLU(1)", "PReLU()", _X, None),
]


@pytest.mark.parametrize(("code", "other", "x", "order"), FLAX, ids=[row[0] for row in FLAX])
def test_numbers_of_flax(code: str, other: str, x: Any, order: tuple[int, ...] | None) -> None:
    nnx: Any = pytest.importorskip("flax.nnx")
    net = layer_cases.make(code)
    arrays = {name: np.abs(array) for name, array in values(net).items()}
    theirs, _ = converted(arrays, "flax", given=kinds_of(net))
    layer = eval("nnx." + other, {"nnx": nnx, "r": nnx.Rngs(0)})
    state = dict(nnx.to_flat_state(nnx.state(layer)))
    assert {".".join(map(str, path)) for path in state if "rngs" not in path} == set(theirs)
    for path, variable in state.items():
        name = ".".join(map(str, path))
        if name in theirs:
            assert variable.get_value().shape == theirs[name].shape
            state[path] = variable.replace(theirs[name])
    nnx.update(layer, nnx.from_flat_state(state))
    turned = x if order is None else x.transpose(order)
    expected = np.asarray(layer(turned))
    got = first(outputs(net, arrays, x))
    assert np.allclose(got if order is None else got.transpose(order), expected, atol=2e-4)


def outputs(net: Any, arrays: Arrays, x: Any) -> Any:
    for name, param in net.parameters_dict().items():
        param.set_data(Tensor(arrays[name]))
    net.set_train(False)
    return net(*([Tensor(x)] * (3 if isinstance(net, nn.MultiheadAttention) else 1)))


def first(value: Any) -> Any:
    value = value[0] if isinstance(value, tuple) else value
    return value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)
