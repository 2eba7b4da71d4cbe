"""Low-rank terms: what they compute, what is trained, and how they come and go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, adapters, nn
from paramesh.errors import CheckpointError, ParameterStateError
from type_checks import present

IDS = Tensor(np.arange(6))


class Block(nn.Cell):
    """A layer with two dense layers, one of them with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Dense(4, 4, activation="relu")
        self.v = nn.Dense(4, 4)

    def construct(self, x: Any) -> Any:
        return x + self.q(x) * self.v(x)


class Net(nn.Cell):
    """An embedding, layers that are stacked or not, and a head."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, embedding_table=nn.Dense(4, 7).weight.value())
        blocks = nn.SequentialCell([Block() for _ in range(2)])
        self.layers = paramesh.stack(Block, 2) if stacked else blocks
        self.norm = nn.LayerNorm((4,))
        self.head = nn.Dense(4, 2)

    def construct(self, ids: Any) -> Any:
        return self.head(self.norm(self.layers(self.table(ids))))


def network(stacked: bool = False, seed: int = 3) -> Net:
    """A network whose layers have the same numbers, stacked or not."""
    net = Net(stacked)
    paramesh.set_seed(seed)
    made = Net(False)
    values = {name: param.value() for name, param in made.parameters_dict().items()}
    paramesh.load_param_into_net(net, {n: paramesh.Parameter(v, n) for n, v in values.items()})
    return net


def trained(net: Net, adapter: adapters.Adapter) -> None:
    """Every term gets other values."""
    rng = np.random.default_rng(1)
    for target in adapter.targets:
        for param in (target.a, target.b):
            param.assign(Tensor(rng.normal(size=param.shape).astype(np.float32)))


@pytest.mark.parametrize("stacked", [False, True], ids=["apart", "stacked"])
def test_terms_begin_at_nothing_and_are_all_that_is_trained(stacked: bool) -> None:
    net = network(stacked)
    before, names = net(IDS).asnumpy(), list(net.parameters_dict())
    adapter = adapters.lora(net, ["q", "table"], rank=2, trained=["head"])
    np.testing.assert_array_equal(net(IDS), before)
    mine = [param.name for param in net.trainable_params()]
    layers = ["layers."] if stacked else ["layers.0.", "layers.1."]
    terms = [f"{layer}q.lora_{term}" for layer in layers for term in "AB"]
    assert sorted(mine) == sorted(
        ["table.lora_A", "table.lora_B", *terms, "head.weight", "head.bias"]
    )
    assert [n for n in net.parameters_dict() if "lora" not in n] == names
    assert adapter.trainable_params() == net.trainable_params()

    frozen = {p.name: p.asnumpy() for p in net.untrainable_params()}
    adam = nn.Adam(net.trainable_params(), 0.1)
    gradients = paramesh.value_and_grad(
        lambda ids: (net(ids) ** 2).sum(), None, weights=net.trainable_params()
    )
    losses = []
    for _ in range(3):
        loss, slopes = gradients(IDS)
        adam(slopes)
        losses.append(float(loss))
    assert losses[2] < losses[0]
    for param in net.untrainable_params():
        np.testing.assert_array_equal(param, frozen[param.name])


def test_a_term_is_a_product_of_two_small_matrices() -> None:
    net = network()
    weights = {n: p.asnumpy() for n, p in net.parameters_dict().items()}
    adapter = adapters.lora(net, "layers.0.v|table", rank=3, alpha=6)
    trained(net, adapter)
    x = Tensor(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    by_path = {target.path: target for target in adapter.targets}
    assert sorted(by_path) == ["layers.0.v", "table"]
    one = by_path["layers.0.v"]
    whole = weights["layers.0.v.weight"] + 2 * one.b.asnumpy() @ one.a.asnumpy()
    wanted = x.asnumpy() @ whole.T + weights["layers.0.v.bias"]
    assert isinstance(net.layers, nn.SequentialCell)
    np.testing.assert_allclose(net.layers[0].v(x), wanted, rtol=1e-4, atol=1e-5)
    one = by_path["table"]
    whole = weights["table.embedding_table"] + 2 * (one.b.asnumpy() @ one.a.asnumpy()).T
    np.testing.assert_allclose(net.table(IDS), whole[IDS.asnumpy()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stacked", [False, True], ids=["apart", "stacked"])
def test_merging_computes_the_same_and_can_be_undone(stacked: bool) -> None:
    net = network(stacked)
    before = {p.name: p.asnumpy() for p in net.get_parameters()}
    adapter = adapters.lora(net, ["q", "table"], rank=2, rslora=True)
    trained(net, adapter)
    out = net(IDS).asnumpy()
    adapter.merge()
    assert "merged" in repr(adapter)
    np.testing.assert_allclose(net(IDS), out, rtol=1e-4, atol=1e-4)
    with pytest.raises(ParameterStateError, match="the terms are merged"):
        adapter.merge()
    adapter.unmerge()
    for name, value in before.items():
        np.testing.assert_array_equal(net.parameters_dict()[name], value)
    with pytest.raises(ParameterStateError, match="the terms are not merged"):
        adapter.unmerge()

    adapter.merge(keep=False)
    assert adapter.remove() is net
    assert set(net.parameters_dict()) == set(before)
    assert all(param.requires_grad for param in net.get_parameters())
    layers = net.layers
    q = layers[0].q if isinstance(layers, nn.SequentialCell) else layers.cell.q
    assert type(q) is nn.Dense
    np.testing.assert_allclose(net(IDS), out, rtol=1e-4, atol=1e-4)
    with pytest.raises(ParameterStateError, match="it was removed"):
        adapter.merge()


def test_removing_without_merging_gives_the_network_back() -> None:
    net = network()
    net.norm.gamma.requires_grad = False
    out = net(IDS).asnumpy()
    adapter = adapters.lora(net, "all-linear", rank=1)
    assert [t.path for t in adapter.targets if "head" in t.path] == ["head"]
    trained(net, adapter)
    assert not np.allclose(net(IDS), out)
    adapter.remove()
    np.testing.assert_array_equal(net(IDS), out)
    assert [p.name for p in net.untrainable_params()] == ["norm.gamma"]
    adapters.lora(net, ["head"], rank=1)


def test_dropout_is_for_training_and_for_terms_alone() -> None:
    net = nn.SequentialCell(nn.Dense(64, 64))
    x = Tensor(np.ones((1, 64), np.float32))
    out = net(x).asnumpy()
    adapter = adapters.lora(net, ["0"], rank=2, dropout=0.5)
    net.set_train()
    np.testing.assert_array_equal(net(x), out)
    trained_b = adapter.targets[0].b
    trained_b.assign(Tensor(np.ones(trained_b.shape, np.float32)))
    assert not np.array_equal(net(x), net(x))
    net.set_train(False)
    np.testing.assert_array_equal(net(x), net(x))


def test_layers_of_half_precision_have_terms_in_float32() -> None:
    net = nn.SequentialCell(nn.Dense(4, 4, dtype=paramesh.bfloat16))
    adapter = adapters.lora(net, ["0"], rank=2)
    assert adapter.targets[0].a.dtype is paramesh.float32
    trained(net, adapter)  # type: ignore[arg-type]
    x = Tensor(np.ones((1, 4)), paramesh.bfloat16)
    out = net(x)
    assert out.dtype is paramesh.bfloat16
    adapter.merge()
    np.testing.assert_allclose(
        net(x).astype(paramesh.float32), out.astype(paramesh.float32), atol=0.2
    )
    adapter.unmerge()
    np.testing.assert_array_equal(net(x).astype(paramesh.float32), out.astype(paramesh.float32))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"targets": ["nothing"]}, ValueError, "'nothing' is no layer of Net"),
        ({"targets": "q"}, ValueError, r"match no layer of Net. Dense layers and .*: table, layer"),
        ({"targets": ["norm"]}, ValueError, "match 'norm', which is a LayerNorm; terms are for"),
        ({"targets": ["q"], "rank": 0}, ValueError, "rank must be at least 1, got 0"),
        ({"targets": ["q"], "rank": 2.0}, TypeError, "rank must be an int, got 2.0"),
        ({"targets": ["q"], "rank_pattern": {"q": "3"}}, TypeError, r"rank_pattern\['q'\] must be"),
        ({"targets": [3]}, TypeError, "targets must hold attribute paths, got 3"),
        ({"targets": ["q"], "dropout": 1}, ValueError, "dropout"),
        ({"targets": ["q"], "trained": ["hed"]}, ValueError, "trained: 'hed' is no layer of Net"),
    ],
)
def test_what_cannot_have_terms(options: Any, kind: type[Exception], message: str) -> None:
    net = network()
    before = list(net.parameters_dict())
    with pytest.raises(kind, match=message):
        adapters.lora(net, **options)
    assert list(net.parameters_dict()) == before
    assert len(net.trainable_params()) == len(before)


def test_a_second_adapter_is_refused() -> None:
    net = network()
    adapters.lora(net, ["q"])
    with pytest.raises(ValueError, match=r"match 'layers.0.q', which has a term already"):
        adapters.lora(net, ["q"])
    with pytest.raises(TypeError, match="net must be a Cell, got int"):
        adapters.lora(3, ["q"])  # type: ignore[arg-type]


# Files.


@pytest.mark.parametrize("stacked", [False, True], ids=["apart", "stacked"])
def test_an_adapter_is_read_by_a_network_that_is_stacked_or_not(
    stacked: bool, tmp_path: Path
) -> None:
    net = network(stacked)
    adapter = adapters.lora(
        net, ["q", "v", "table"], 2, 8, 0.25, rank_pattern={"v": 3}, trained=["head", "norm"]
    )
    trained(net, adapter)
    bias = present(net.head.bias)
    bias.assign(bias + 1)
    net.norm.beta.assign(net.norm.beta + 1)
    folder = adapters.save_adapter(adapter, tmp_path / "tuned", base_model="them/theirs")
    keys = {
        n: list(v.shape)
        for n, v in paramesh.load_checkpoint(folder / "adapter_model.safetensors").items()
    }
    assert keys["base_model.model.layers.1.q.lora_A.weight"] == [2, 4]
    assert keys["base_model.model.layers.0.v.lora_B.weight"] == [4, 3]
    assert keys["base_model.model.table.lora_embedding_A"] == [2, 7]
    assert keys["base_model.model.norm.bias"] == [4]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 8, 0.25)
    assert config["rank_pattern"] == {"layers.0.v": 3, "layers.1.v": 3}
    assert config["modules_to_save"] == ["head", "norm"]
    assert config["base_model_name_or_path"] == "them/theirs"

    for kind in (stacked, not stacked):
        other = network(kind)
        again = adapters.load_adapter(other, folder)
        np.testing.assert_allclose(other(IDS), net(IDS), atol=1e-5)
        assert again.dropout == 0.25
        assert len(other.trainable_params()) == len(again.trainable_params())
        adapters.save_adapter(again, tmp_path / "again")
        twice = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
        assert twice | {"base_model_name_or_path": "them/theirs"} == config


def test_names_of_another_model(tmp_path: Path) -> None:
    def names(path: str) -> str:
        return "model." + path.replace(".q", ".self_attn.q_proj")

    net = network()
    adapter = adapters.lora(net, ["q"], 2)
    trained(net, adapter)
    folder = adapters.save_adapter(adapter, tmp_path / "tuned", names=names)
    keys = list(paramesh.load_checkpoint(folder / "adapter_model.safetensors"))
    assert keys[0] == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    other = network()
    with pytest.raises(
        CheckpointError, match=r"for 'model.layers.0.self_attn.q_proj', which is no"
    ):
        adapters.load_adapter(other, folder)
    adapters.load_adapter(other, folder, names=names)
    np.testing.assert_array_equal(other(IDS), net(IDS))
    with pytest.raises(TypeError, match="names must give a str for each path, got None"):
        adapters.save_adapter(adapter, folder, names=lambda path: None)  # type: ignore[arg-type,return-value]


def edited(folder: Path, **changes: Any) -> None:
    """Another configuration."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "is of the kind 'IA3'; only LORA is read"),
        ({"use_dora": True}, "has use_dora=True, which is not read"),
        ({"bias": "all"}, "has bias='all', which is not read"),
    ],
)
def test_adapters_of_other_kinds_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = adapters.save_adapter(adapters.lora(network(), ["q"]), tmp_path / "tuned")
    edited(folder, **changes)
    net = network()
    with pytest.raises(CheckpointError, match=message):
        adapters.load_adapter(net, folder)
    assert len(net.trainable_params()) == len(list(net.get_parameters()))


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = adapters.save_adapter(adapters.lora(network(), ["q"]), tmp_path / "tuned")
    model = folder / "adapter_model.safetensors"
    values = paramesh.load_checkpoint(model)
    net = network()
    first = "base_model.model.layers.0.q.lora_A.weight"

    def refused(message: str, changed: dict[str, Any]) -> None:
        paramesh.save_checkpoint(changed, model)
        with pytest.raises(CheckpointError, match=message):
            adapters.load_adapter(net, folder)
        assert not any("lora" in name for name in net.parameters_dict())

    refused(
        r"has no layer 0: lora_A for 'layers.0.q'", {n: v for n, v in values.items() if n != first}
    )
    refused(
        r"a weight of shape \(4, 4\), which does not fit lora_A \[8, 5\]",
        values | {first: Tensor(np.zeros((8, 5), np.float32))},
    )
    refused(
        r"has 'other.weight' \[1\], which is no Parameter",
        values | {"base_model.model.other.weight": Tensor([1.0])},
    )
    model.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no 'adapter_model.safetensors'"):
        adapters.load_adapter(net, folder)
    (folder / "adapter_config.json").write_text("{")
    model.touch()
    with pytest.raises(CheckpointError, match="is no JSON"):
        adapters.load_adapter(net, folder)
    with pytest.raises(TypeError, match="adapter must be what adapters.lora returns"):
        adapters.save_adapter(net, folder)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="net must be a Cell"):
        adapters.load_adapter(None, folder)  # type: ignore[arg-type]
