"""Plans for devices that need not exist: here those of the CPU, whose compiler is always there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.errors import ContextError
from paramesh.parallel.planning import MissingCompilerError, calibration, devices
from paramesh.parallel.planning.devices import parsed, target_devices
from paramesh.parallel.planning.sent import sent_by
from paramesh.parallel.search.targets import TARGETS
from paramesh.state import placement
from paramesh.train import TrainOneStepCell, WithLossCell

X = np.ones((64, 128), np.float32)


@pytest.fixture(autouse=True)
def _no_figures_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARAMESH_TARGETS", str(tmp_path))


def wide_step(blocks: int = 1) -> TrainOneStepCell:
    net = nn.SequentialCell(
        *(
            nn.SequentialCell(nn.Dense(128, 512), nn.ReLU(), nn.Dense(512, 128))
            for _ in range(blocks)
        )
    )
    rule = nn.Momentum(net.trainable_params(), 0.01, 0.9)
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), rule)


@pytest.fixture(scope="module")
def planned() -> Iterator[tuple[Any, TrainOneStepCell]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PARAMESH_TARGETS", "nowhere")
    step = wide_step()
    yield paramesh.plan(step, Tensor(X), Tensor(X), target="cpu:8", memory="1GB"), step
    patch.undo()


def test_a_step_is_compiled_and_nothing_is_computed(planned: Any) -> None:
    plan, step = planned
    assert plan.devices == 8
    assert plan.fits
    assert all(param.has_init for param in step.network.trainable_params())
    assert {row.name for row in plan.parameters.rows} == {
        "0.0.weight",
        "0.0.bias",
        "0.2.weight",
        "0.2.bias",
    }
    assert any(max(row.parts, default=1) == 8 for row in plan.parameters.rows)
    assert {"moments.0.0.weight", "global_step"} <= {row.name for row in plan.states.rows}


def test_the_components_of_its_memory_add_up_to_what_the_compiler_says(planned: Any) -> None:
    plan, _ = planned
    memory, said = plan.memory, plan.memory_analysis()
    parts = (memory.parameters, memory.state, memory.inputs, memory.activations, memory.workspace)
    assert sum(parts) == memory.total
    # 4 bytes of "learning_rate" and others that are not Parameters of the table.
    assert abs(memory.parameters + memory.state + memory.inputs - said.argument_size_in_bytes) < 64
    results = said.output_size_in_bytes - said.alias_size_in_bytes
    assert memory.total == (
        said.argument_size_in_bytes
        + results
        + said.temp_size_in_bytes
        + said.generated_code_size_in_bytes
    )
    assert memory.limit == 10**9
    assert 0.7 < memory.predicted / memory.total < 1.3


def test_the_components_of_its_time_add_up(planned: Any) -> None:
    plan, _ = planned
    assert plan.seconds == pytest.approx(plan.search.seconds)
    assert min(plan.parts) > 0
    network = sum(one.seconds for one in plan.collectives)
    assert plan.parts.network == pytest.approx(network, rel=0.02)


def test_it_says_what_it_found(planned: Any) -> None:
    plan, _ = planned
    text = str(plan)
    assert "TrainOneStepCell on cpu:8 (8 x cpu), mesh " in text
    assert "It fits: " in text
    assert "Bytes are the compiler's. Before it was compiled, " in text
    assert f"{plan.memory.predicted / plan.memory.total - 1:+.0%}) was predicted." in text
    assert "0.0.weight" in text
    assert "Each device sends " in text
    assert plan.explain().startswith("the plan")
    found = json.loads(json.dumps(plan.to_dict()))
    assert found["memory"]["fits"] is True
    assert found["step"]["total"] == pytest.approx(plan.seconds)
    assert found["parameters"][0]["layout"]["device_matrix"]
    assert all(0 <= one["at"] <= 1 for one in found["collectives"])
    assert plan.as_text().startswith("HloModule")
    assert {one.kind for one in plan.compiled} <= {"all-reduce", "all-gather", "all-to-all"}


def test_a_plan_changes_nothing_of_the_network_here(planned: Any) -> None:
    _, step = planned
    before = placement.current()
    assert before.count == 1
    loss = step(Tensor(X), Tensor(X))
    assert loss.shape == ()
    table = step.layout_table()
    assert table.device_num == 1
    assert table.plan is None


def test_what_does_not_fit_is_reported_with_what_would_help() -> None:
    step = wide_step(blocks=2)
    plan = paramesh.plan(step, Tensor(X), Tensor(X), target="cpu:2", memory="600KB")
    assert plan.fits is False
    names = [one.name for one in plan.remedies]
    assert {"other layouts", "recompute", "accumulation of 2 micro-batches"} <= set(names)
    assert not any(one.fits for one in plan.remedies)
    assert "does not fit" in str(plan)
    assert "what would make it fit" in str(plan)
    assert context.get_auto_parallel_context("grad_accumulation_step") == 1
    assert all(cell._recompute is None for _, cell in step.cells_and_names())


def test_a_remedy_that_fits_comes_first_and_says_how() -> None:
    step = wide_step(blocks=2)
    rows = jax.ShapeDtypeStruct((8192, 128), np.float32)
    roomy = paramesh.plan(step, rows, rows, target="cpu:2", memory="1GB")
    limit = int(roomy.memory.total * 0.95)
    plan = paramesh.plan(step, rows, rows, target="cpu:2", memory=limit)
    assert plan.fits is False
    fitting = [one for one in plan.remedies if one.fits]
    assert list(plan.remedies[: len(fitting)]) == fitting
    assert [one.seconds for one in fitting] == sorted(one.seconds for one in fitting)
    assert all(one.total is not None and one.total <= limit for one in fitting)
    assert {one.name: one.how for one in fitting} == {
        "recompute": "network._backbone.0.recompute(), and the 1 beside it",
        "accumulation of 2 micro-batches": ("set_auto_parallel_context(grad_accumulation_step=2)"),
    }
    # Each micro-batch is computed once; it is as if there were one, but for what is read again.
    assert fitting[0].name == "accumulation of 2 micro-batches"
    assert fitting[0].seconds < 1.25 * roomy.seconds


def test_shapes_are_enough() -> None:
    def twice(x: Any) -> Any:
        return (x * 2.0).sum()

    shape = jax.ShapeDtypeStruct((8, 4), np.float32)
    plan = paramesh.plan(twice, shape, target="cpu:1")
    assert plan.devices == 1
    assert plan.fits is None
    assert "give memory=" in str(plan)
    assert not plan.collectives


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("h100", "a target is a kind and a shape, such as h100:8"),
        ("b17:8", "there are cpu, a100, h100, h200, v5e, v5p, v6e"),
        ("cpu:0", "at least one device"),
        ("cpu:2x4", "the shape of 'cpu' is devices"),
        ("h100:2x2x2", "the shape of 'h100' is hosts x devices"),
        ("v5e:4x4x2", "the shape of 'v5e' is the chips of a slice along each of its two axes"),
        ("v5p:2x2x2x2", "along each of its three axes"),
        ("v5e:32x32", "a slice of 'v5e' has at most 16 chips along an axis"),
        ("v6e:512", "a slice of 'v6e' has at most 16 chips along an axis"),
        ("cpu:100000", "at most 4096 virtual devices of a CPU"),
        (8, "target=8"),
    ],
)
def test_mistakes_in_targets(target: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(target)


def test_other_mistakes() -> None:
    with pytest.raises(ContextError, match="JAX has opened 8 devices of the CPU already"):
        target_devices("cpu:9")
    with pytest.raises(TypeError, match="the step must be a Cell or a function, got int"):
        paramesh.plan(3, target="cpu:1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="plan: memory must be bytes, or a text such as '80GB'"):
        paramesh.plan(lambda x: x, X, target="cpu:1", memory="much")


@pytest.mark.parametrize(("target", "extra"), [("h100:8", "plan-cuda"), ("v5e:2x4", "plan-tpu")])
def test_a_missing_compiler_is_one_sentence(
    target: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingCompilerError, match=rf"pip install 'paramesh\[{extra}\]'"):
        target_devices(target)


@pytest.mark.parametrize(
    ("there", "given", "opened"),
    [([], "", ["cpu"]), (["/dev/nvidia0"], "", []), ([], "tpu", [])],
)
def test_accelerators_are_not_looked_for_where_there_are_none(
    there: list[str], given: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    config = SimpleNamespace(update=lambda name, value: found.append(value))
    monkeypatch.setenv("JAX_PLATFORMS", given)
    monkeypatch.setattr(devices, "jax", SimpleNamespace(config=config))
    monkeypatch.setattr(devices, "devices_are_open", lambda: False)
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: there)
    devices.look_for_none_in_vain()
    assert found == opened


def test_slices_of_tpus_by_count_are_the_squarest() -> None:
    assert devices._slice("v5e", 8) == (2, 4)
    assert devices._slice("v5e", 64) == (8, 8)
    assert devices._slice("v5p", 64) == (4, 4, 4)
    assert devices._slice("v5e", 1) == (1, 1)


# Collectives in the texts of compilers.

GROUPS = "replica_groups={{0,1,2,3}}"


def test_collectives_of_each_compiler_are_read() -> None:
    text = """HloModule m
%body (p: (s32[], f32[64])) -> (s32[], f32[64]) {
  %ar = f32[64]{0} all-reduce(%x), channel_id=1, replica_groups=[1,4]<=[4], to_apply=%add
}
%fused.1 (p: f32[8]) -> f32[32] {
  %ag.1 = f32[32]{0:T(128)S(1)} all-gather(%p), channel_id=2, replica_groups={{0,1,2,3}}
}
%fused.2 (p: f32[8]) -> f32[32] {
  %ag.2 = f32[32]{0:T(128)} all-gather(%p), channel_id=2, replica_groups={{0,1,2,3}}
}
%unused (p: f32[8]) -> f32[32] {
  %ag.3 = f32[32]{0} all-gather(%p), channel_id=9, replica_groups={{0,1,2,3}}
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (s32[], f32[64]) while(%t), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %f = f32[32] fusion(%a), kind=kLoop, calls=%fused.1
  %g = f32[32] fusion(%a), kind=kLoop, calls=%fused.2
  %s = ((bf16[4], s8[8]), (bf16[16], s8[32])) all-gather-start(%a), replica_groups={{0,1,2,3}}
  %r = f32[4]{0} reduce-scatter(%a), channel_id=4, replica_groups=[2,4]<=[8], to_apply=%add
  %p = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%a), channel_id=5
  %one = f32[8]{0} all-reduce(%a), channel_id=6, replica_groups={{0},{1}}, to_apply=%add
}
"""
    found = {one.kind: (one.operations, one.nbytes) for one in sent_by(text)}
    assert found == {
        "all-reduce": (1, 3 * 2 * 256 * 3 / 4),
        "all-gather": (2, 128 * 3 / 4 + 64 * 3 / 4),
        "reduce-scatter": (1, 16 * 3),
        "collective-permute": (1, 40),
    }


def test_each_reduce_scatter_of_gpus_counts() -> None:
    shape, groups = "((f32[8]), f32[2])", "replica_groups={{0,1,2,3}}, to_apply=%add"
    text = f"""ENTRY %main (a: f32[8]) -> f32[8] {{
  %r.1 = {shape} reduce-scatter-start(%a), channel_id=1, {groups}
  %r.2 = {shape} reduce-scatter-start(%b), channel_id=2, {groups}
}}
"""
    assert sent_by(text) == [("reduce-scatter", 2, 2 * 8 * 3)]


def test_a_sum_of_which_tpus_keep_a_part_is_a_reduce_scatter() -> None:
    text = """HloModule m
%all-reduce-scatter (input: f32[64]) -> f32[16] {
  %all-reduce.7 = f32[64]{0} all-reduce(%input), channel_id=2, replica_groups={{0,1,2,3}}
  ROOT %slice.1 = f32[16]{0} dynamic-slice(%all-reduce.7, %i), dynamic_slice_sizes={16}
}
%kept-whole (input: f32[64]) -> f32[64] {
  %all-reduce.8 = f32[64]{0} all-reduce(%input), channel_id=3, replica_groups={{0,1,2,3}}
  ROOT %slice.2 = f32[16]{0} dynamic-slice(%input, %i), dynamic_slice_sizes={16}
}
ENTRY %main (a: f32[64]) -> f32[16] {
  %g = f32[64] fusion(%a), kind=kCustom, calls=%kept-whole
  ROOT %f = f32[16] fusion(%g), kind=kCustom, calls=%all-reduce-scatter
}
"""
    found = {one.kind: one.nbytes for one in sent_by(text)}
    assert found == {"reduce-scatter": 256 * 3 / 4, "all-reduce": 2 * 256 * 3 / 4}


def test_several_sums_of_one_fusion_of_tpus_are_reduce_scatters() -> None:
    def fusion(number: int) -> str:
        return f"""%all-reduce-scatter.{number} (a: f32[64], b: f32[32]) -> (f32[16], f32[8]) {{
  %sum.{number} = (f32[64]{{0}}, f32[32]{{0}}) all-reduce(%a, %b), channel_id=1, {GROUPS}
  %get-tuple-element.1 = f32[64]{{0}} get-tuple-element(%sum.{number}), index=0
  %slice.3 = f32[16]{{0}} dynamic-slice(%get-tuple-element.1, %i), dynamic_slice_sizes={{16}}
  %get-tuple-element.2 = f32[32]{{0}} get-tuple-element(%sum.{number}), index=1
  %slice.4 = f32[8]{{0}} dynamic-slice(%get-tuple-element.2, %i), dynamic_slice_sizes={{8}}
  ROOT %tuple.2 = (f32[16]{{0}}, f32[8]{{0}}) tuple(%slice.3, %slice.4)
}}
"""

    text = f"""HloModule m
{fusion(8)}{fusion(9)}
ENTRY %main (a: f32[64], b: f32[32]) -> (f32[16], f32[8]) {{
  %g = (f32[16], f32[8]) fusion(%a, %b), kind=kCustom, calls=%all-reduce-scatter.8
  ROOT %f = (f32[16], f32[8]) fusion(%a, %b), kind=kCustom, calls=%all-reduce-scatter.9
}}
"""
    # All that were joined are on one channel.
    found = {one.kind: (one.operations, one.nbytes) for one in sent_by(text)}
    assert found == {"reduce-scatter": (2, 2 * 384 * 3 / 4)}


def test_turns_of_loops_of_tpus_are_read_from_their_conditions() -> None:
    text = """HloModule m
%cond (p: (u32[], f32[8])) -> pred[] {
  %end = u32[]{:T(128)} constant(12)
  %p = (u32[]{:T(128)}, f32[8]{0}) parameter(0)
  %turn = u32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%turn, %end), direction=LT, metadata={}
}
%body (p: (u32[], f32[8])) -> (u32[], f32[8]) {
  %two = u32[]{:T(128)} constant(2)
  %q = (u32[]{:T(128)}, f32[8]{0}) parameter(0)
  %now = u32[]{:T(128)} get-tuple-element(%q), index=0
  %next = u32[]{:T(128)} add(%now, %two)
  %cp = (f32[8]{0}, f32[8]{0}, u32[]) collective-permute-start(%x), channel_id=5
  %part = f32[32]{0} fusion(%y), kind=kCustom, calls=%async
  ROOT %t = (u32[]{:T(128)}, f32[8]{0}) tuple(%next, %cp-done)
}
%async (p: f32[8]) -> f32[32] {
  ROOT %ag.1 = f32[32]{0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}
}
%done (p: f32[8]) -> f32[32] {
  ROOT %ag.2 = f32[32]{0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}
}
ENTRY %main (a: f32[8]) -> f32[32] {
  %w = (u32[]{:T(128)}, f32[8]{0}) while(%t.0), condition=%cond, body=%body
  ROOT %f = f32[32] fusion(%a), kind=kCustom, calls=%done
}
"""
    found = {one.kind: one.nbytes for one in sent_by(text)}
    assert found == {"collective-permute": 6 * 32, "all-gather": 128 * 3 / 4}


# Figures that were measured.


def test_measured_figures_are_kept_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_LEAST", 1e-6)
    measured = calibration.measure(jax.devices()[:2], size=32)
    assert measured.target == "cpu"
    assert measured.devices == 2
    assert measured.link is not None
    assert min(measured.memory_bandwidth, measured.link, *measured.peaks.values()) > 0
    target, is_measured = calibration.calibrated(TARGETS["cpu"])
    assert (target, is_measured) == (TARGETS["cpu"], False)
    path = calibration.keep(measured)
    target, is_measured = calibration.calibrated(TARGETS["cpu"])
    assert is_measured
    assert target.memory_bandwidth == measured.memory_bandwidth
    assert target.link == measured.link
    assert target.of_dtype("bfloat16").flops == measured.peaks["bfloat16"]
    assert calibration.calibrated(TARGETS["h100"]) == (TARGETS["h100"], False)
    for content in ("[]", "{", '{"cpu": {"peaks": 3}}'):
        path.write_text(content)
        with pytest.raises(ContextError, match=r"targets.json: cannot be read as measured figures"):
            calibration.calibrated(TARGETS["cpu"])


def test_every_target_has_its_figures() -> None:
    for target in TARGETS.values():
        assert target.of_dtype("bfloat16").flops >= target.of_dtype("float32").flops or (
            target.name == "cpu"
        )
        assert target.flops in (target.peaks["bfloat16"], target.peaks["float32"])
        assert target.link > target.network > 0
        assert target.memory or target.name == "cpu"
        assert target.of_dtype("int4").flops == target.flops
