"""Names of MindSpore's top that came with 2.5 to 2.10; results are those of 2.10 on a CPU."""

from __future__ import annotations

import itertools
import types
from pathlib import Path

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, mindspore_later_names, nn, runtime, train
from paramesh.checkpoint import load_checkpoint, save_checkpoint
from type_checks import untyped, wrong


def test_they_are_names_of_the_top() -> None:
    for name in set(mindspore_later_names.__all__) - {"ParamDictFuture"}:
        assert getattr(paramesh, name) is getattr(mindspore_later_names, name)
    for name in ("Event", "Stream", "StreamCtx", "current_stream", "memory_summary"):
        assert getattr(paramesh, name) is getattr(runtime, name)
    for name in ["export", "load", "build_train_network", "load_checkpoint_async", "DatasetHelper"]:
        assert callable(getattr(train, name))
    assert paramesh.long == paramesh.int64
    assert (paramesh.cfloat, paramesh.cdouble) == (paramesh.complex64, paramesh.complex128)


def test_a_buffer_becomes_a_tensor() -> None:
    data = np.array([1, 2], np.int32).tobytes()
    assert paramesh.frombuffer(data, paramesh.int32).asnumpy().tolist() == [1, 2]
    assert paramesh.frombuffer(data, paramesh.int32, count=1, offset=4).asnumpy().tolist() == [2]
    wide = paramesh.frombuffer(bytearray(np.array([2**40]).tobytes()), paramesh.int64)
    assert (wide.dtype, wide.asnumpy()[0]) == (paramesh.int64, 2**40)
    for match, arguments in {
        "7 bytes are no multiple of the 4": (data[:7], paramesh.int32),
        "offset=8 is outside of 8 bytes": (data, paramesh.int32, -1, 8),
        "count=3 needs 12 of 8 bytes": (data, paramesh.int32, 3),
        "must have the buffer protocol": (wrong(3), paramesh.int32),
    }.items():
        with pytest.raises((TypeError, ValueError), match=match):
            paramesh.frombuffer(*untyped(arguments))


def test_tensors_are_swapped() -> None:
    one, other = Tensor([1]), Tensor([2.5, 3.0])
    paramesh.swap_tensors(one, other)
    assert one.asnumpy().tolist() == [2.5, 3.0]
    assert (other.asnumpy().tolist(), other.dtype) == ([1], paramesh.int64)
    with pytest.raises(TypeError, match="t2 must be a Tensor .and no Parameter"):
        paramesh.swap_tensors(one, Parameter(Tensor([1.0])))


def test_types_of_python_objects() -> None:
    given = [1, 1.5, True, int, float, Tensor([1]), np.float32, np.int8(1)]
    names = ["int64", "float64", "bool_", "int64", "float64", "int64", "float32", "int8"]
    assert [paramesh.get_py_obj_dtype(one) for one in given] == [
        getattr(paramesh, name) for name in names
    ]
    with pytest.raises(NotImplementedError, match="str has no element type"):
        paramesh.get_py_obj_dtype("a")


def test_what_there_is() -> None:
    device = paramesh.get_current_device()
    assert device == ("CPU", 0)
    assert device.device_target == "CPU"
    paramesh.set_seed(5)
    assert paramesh.initial_seed() == 5
    assert paramesh.get_log_config()["GLOG_v"] == paramesh.get_level()
    paramesh.ms_memory_recycle()
    assert paramesh.async_ckpt_thread_status() is False


def files(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_checkpoints_of_both_formats_become_the_other(tmp_path: Path) -> None:
    source = tmp_path / "run"
    (source / "rank_0").mkdir(parents=True)
    for name in ("x", "rank_0/y"):
        save_checkpoint([{"name": "w", "data": Tensor([1.0, 2.0])},
                         {"name": "b", "data": Tensor([1], paramesh.int32)}],
                        str(source / f"{name}.ckpt"))  # fmt: skip
    paramesh.ckpt_to_safetensors(source / "x.ckpt", tmp_path / "one")
    assert files(tmp_path / "one") == ["x.safetensors"]
    paramesh.ckpt_to_safetensors(str(source), str(tmp_path / "all"), name_map={"w": "weight"})
    assert files(tmp_path / "all") == ["rank_0/y.safetensors", "x.safetensors"]
    paramesh.safetensors_to_ckpt(tmp_path / "all", tmp_path / "back", file_name_regex="^y")
    assert files(tmp_path / "back") == ["rank_0/y.ckpt"]
    found = load_checkpoint(tmp_path / "back" / "rank_0" / "y.ckpt")
    assert {name: value.asnumpy().tolist() for name, value in found.items()} == {
        "weight": [1.0, 2.0], "b": [1]}  # fmt: skip
    train.ckpt_to_safetensors(source / "x.ckpt")
    assert "x.safetensors" in files(source)
    for match, call in {
        "there is no file or folder": lambda: paramesh.ckpt_to_safetensors(tmp_path / "none"),
        "file_path must be a .safetensors file": lambda: paramesh.safetensors_to_ckpt(
            source / "x.ckpt"),
        "has no .ckpt files": lambda: paramesh.ckpt_to_safetensors(tmp_path / "one"),
        "name_map must be a dict": lambda: paramesh.ckpt_to_safetensors(
            source, name_map=wrong(["w"])),
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=match):
            call()


def test_a_checkpoint_is_read_beside_the_training(tmp_path: Path) -> None:
    net = nn.Dense(2, 1)
    save_checkpoint(net, str(tmp_path / "a.ckpt"))
    other = nn.Dense(2, 1)
    future = paramesh.load_checkpoint_async(tmp_path / "a.ckpt", other)
    assert sorted(future.result()) == ["bias", "weight"]
    np.testing.assert_array_equal(other.weight.asnumpy(), net.weight.asnumpy())
    with pytest.raises(FileNotFoundError):
        paramesh.load_checkpoint_async(tmp_path / "none.ckpt").result()


def test_events_measure_what_devices_do(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 0.5)
    monkeypatch.setattr(runtime, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    start, end = paramesh.Event(enable_timing=True), paramesh.Event(enable_timing=True)
    stream = paramesh.current_stream()
    start.record()
    with paramesh.StreamCtx(paramesh.Stream()):
        x = Tensor([1.0]) + 1
    stream.record_event(end)
    assert start.elapsed_time(end) == 500.0
    assert float(x) == 2
    stream.wait_event(end)
    stream.wait_stream(paramesh.default_stream())
    stream.synchronize()
    assert stream.query()
    assert end.query()
    with pytest.raises(RuntimeError, match="with enable_timing=True"):
        start.elapsed_time(stream.record_event())
    with pytest.raises(RuntimeError, match=r"record\(\) both events first"):
        paramesh.Event().elapsed_time(end)
    with pytest.raises(TypeError, match="ctx_stream must be a Stream or None, got int"):
        paramesh.set_cur_stream(wrong(3))
    assert "memory" in paramesh.memory_summary()
