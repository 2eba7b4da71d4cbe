"""Every recorded behaviour of MindSpore in the core's scope, or the difference that is listed.

`golden/differences.json` lists the records that paramesh answers differently, each with what
paramesh does and the rule that says why, and those that are left. A listed difference that is none
any more fails, so the list (and the page of the documentation made from it) stays true.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

import goldens
import recorded
from paramesh import context

AREAS = (
    "construct",
    "tensor",
    "name",
    "flags",
    "repr",
    "dtype",
    "set_data",
    "clone",
    "ParameterTuple",
    "init_data",
    "cell",
    "copy",
    "promotion",
)

# Rules of MindSpore 1.x, which was not run: (case, code, what the rule says comes out).
ONE_X: dict[str, tuple[str, Any]] = {
    "set_data dtype order (incoming later than current: TypeError; earlier: cast to current; "
    "equal: plain)": (
        "order=['bool_','int8','uint8','int16','int32','int64','float16','float32','float64']\n"
        "def ok(a,b):\n"
        "    try: Parameter(Tensor([1],getattr(ms,a))).set_data(Tensor([1],getattr(ms,b)))\n"
        "    except TypeError: return False\n"
        "    return True\n"
        "[[order.index(b) for b in order if ok(a,b)]==list(range(i+1)) "
        "for i,a in enumerate(order)]",
        {"result": [True] * 9},
    ),
    "set_data with uint16/uint32/uint64 on either side": (
        "Parameter(Tensor([1],ms.int64)).set_data(Tensor([1],ms.uint16))",
        {"error": "KeyError"},
    ),
    "set_data float scalar into int8..int64": (
        "Parameter(Tensor(1,ms.int64)).set_data(1.5)",
        {"error": "TypeError"},
    ),
    "set_data other shape, slice_shape=False": (
        "Parameter(np.zeros((2,3),np.float32)).set_data(Tensor(np.zeros((3,2),np.float32)))",
        {"error": "ValueError"},
    ),
    "set_data other shape, slice_shape=True": (
        "p=Parameter(np.zeros((2,3),np.float32))\n"
        "p.set_data(Tensor(np.zeros((1,3),np.float32)),slice_shape=True)\n"
        "[list(p.shape),p.sliced]",
        {"result": [[1, 3], True]},
    ),
    "set_data initialised Tensor into uninitialised Parameter": (
        "p=Parameter(initializer('zeros',[2]))\np.set_data(Tensor([1.,2.])).asnumpy().tolist()",
        {"error": "TypeError"},
    ),
    "set_data check order": (
        "p=Parameter(np.zeros(2,np.int32))\n"
        "def kind(*a):\n"
        "    try: p.set_data(*a)\n"
        "    except Exception as e: return [c.__name__ for c in type(e).__mro__ if 'Par' not in "
        "c.__name__][0]\n"
        "[kind('no'), kind(1.5), kind(Tensor([1.,2.,3.])), kind(Tensor([1.,2.]))]",
        {"result": ["TypeError", "ValueError", "ValueError", "TypeError"]},
    ),
    "default name": (
        "[Parameter(1).name, Parameter(1,name='').name, Parameter(1,name='  ').name]",
        {"result": ["Parameter"] * 3},
    ),
    "name not str and not None": ("Parameter(1,name=3)", {"error": "ValueError"}),
    "name longer than 1024 after strip": (
        "Parameter(1,name='n'*1024+' '); Parameter(1,name='n'*1025)",
        {"error": "ValueError"},
    ),
    "ParameterTuple with two objects of one name": (
        "t=ParameterTuple([Parameter(1,name='n'),Parameter(2,name='n')])\n[p.name for p in t]",
        {"result": ["name_0", "name_1"]},
    ),
    "init_data after parallel mode changed": (
        "p=Parameter(initializer('ones',[2]))\n"
        "ms.set_auto_parallel_context(parallel_mode='semi_auto_parallel')\n"
        "p.init_data().asnumpy().tolist()",
        {"error": "RuntimeError"},
    ),
    "init_data layout": (
        "p=Parameter(initializer('ones',[4]))\n"
        "def kind(layout):\n"
        "    try: p.init_data(layout)\n"
        "    except Exception as e: return type(e).__name__\n"
        "[kind([1]), kind((1,2)), kind(()), kind(([2],[0],[2])), list(p.shape)]",
        {"result": ["TypeError", "ValueError", "ValueError", None, [2]]},
    ),
    "deepcopy": (
        "q=copy.deepcopy(Parameter(1.0,name='w',requires_grad=False))\n[q.name,q.requires_grad]",
        {"result": ["w", True]},
    ),
    "pickle": (
        "p=Parameter(1.0,'w',False,True); p.comm_fusion=3\n"
        "q=pickle.loads(pickle.dumps(p))\n"
        "[q.name,q.requires_grad,q.layerwise_parallel,q.comm_fusion]",
        {"result": ["w", False, True, 1]},
    ),
    "clone": (
        "p=Parameter(1.0,'w',False,True,False); p.comm_fusion=3\nq=p.clone()\n"
        "[q.name,q.requires_grad,q.layerwise_parallel,q.parallel_optimizer,q.comm_fusion]",
        {"result": ["w", False, True, False, 3]},
    ),
    "comm_fusion setter in PYNATIVE with an auto_parallel mode": (
        "ms.set_auto_parallel_context(parallel_mode='auto_parallel')\n"
        "p=Parameter(1.0); p.comm_fusion=2\np.comm_fusion",
        {"error": "RuntimeError"},
    ),
    "class name of an instance": ("type(Parameter(1)).__name__", {"result": "ParameterTensor"}),
    "Parameter.data": ("p=Parameter(1)\np.data is p", {"result": True}),
    "set_param_ps outside parameter-server mode": (
        "Parameter(1.0).set_param_ps()",
        {"error": "RuntimeError"},
    ),
    "Cell.insert_param_to_cell keyword": (
        "def kind(name, p, **k):\n"
        "    try: c.insert_param_to_cell(name, p, **k)\n"
        "    except Exception as e: return type(e).__name__\n"
        "c=nn.Cell(); c.other=1\n"
        "[kind('a.b',Parameter(1.0),check_name=False), kind('a.b',1), kind('',Parameter(1.0)), "
        "kind('a.b',Parameter(1.0)), kind('other',Parameter(1.0)), kind('z',1)]",
        {"result": [None, "KeyError", "KeyError", "KeyError", "KeyError", "TypeError"]},
    ),
    "Cell.parameters_and_names": (
        "c=nn.Cell(); c.a=Parameter(initializer('zeros',[1])); c.b=c.a\n"
        "p=c.a.init_data()\n[[n, q is p.inited_param] for n, q in c.parameters_and_names()]",
        {"result": [["a", True]]},
    ),
    "Cell.update_parameters_name": (
        "c=nn.Cell(); c.w=Parameter(1.0,name='mine'); d=nn.Cell(); d.sub=c\nc.w.name",
        {"result": "sub.w"},
    ),
    "Cell.parameters_broadcast_dict": (
        "c=nn.Cell(); c.a=Parameter(1.0); c.b=Parameter(1.0,layerwise_parallel=True)\n"
        "[list(c.parameters_broadcast_dict()), nn.Cell().parameters_broadcast_dict()]",
        {"result": [["a"], None]},
    ),
    "Cell.init_parameters_data": (
        "c=nn.Cell(); p=Parameter(initializer('ones',[2])); c.a=p\n"
        "r=c.init_parameters_data()\n[type(r).__name__, r[p] is c.a, r[p].asnumpy().tolist()]",
        {"result": ["dict", True, [1.0, 1.0]]},
    ),
    "default int input": (
        "def kind(x):\n"
        "    try: return str(Parameter(x).dtype)\n"
        "    except Exception as e: return type(e).__name__\n"
        "[kind(x) for x in (1, 1.0, True, (1,), 'a', None)]",
        {"result": ["Int32", "Float32", "ValueError", "TypeError", "TypeError", "TypeError"]},
    ),
}

LISTED = goldens.load("differences")
DIFFERENCES = {(d["area"], d["case"]): d for d in LISTED["differences"]}
LEFT = {(d["area"], d["case"]): d for d in LISTED["left"]}


def one_x(record: dict[str, Any]) -> dict[str, Any]:
    """A record of MindSpore 1.x's rules with code to run and what should come out."""
    if "current" not in record:
        code, expected = ONE_X[record["case"]]
        return {**record, "code": code, "result": None} | expected
    current, incoming = record["current"], record["incoming"]
    code = (
        f"p=Parameter(Tensor([0,1],mstype.to_dtype('{current}')))\n"
        f"p.set_data(Tensor([1,1],mstype.to_dtype('{incoming}')))\n"
        "[p.dtype.long_name, [int(v) for v in p.tolist()]]"
    )
    if "error" not in record:
        return {**record, "code": code, "result": [current, [1, 1]]}
    return {**record, "code": code}


def key(record: dict[str, Any]) -> tuple[str, str]:
    return record["area"], record["case"]


RUN = [r for r in goldens.records(*AREAS) if key(r) not in LEFT]
RULES = [r for r in map(one_x, goldens.records("r1.x")) if key(r) not in LEFT]


@pytest.fixture(autouse=True)
def _pynative() -> None:
    """The records were made operator by operator."""
    context.set_context(mode=context.PYNATIVE_MODE)


def expected_of(record: dict[str, Any]) -> dict[str, Any]:
    """What MindSpore does; its numbered default names are `Parameter` here (rule default-name)."""
    if "error" in record:
        return {"error": record["error"]}
    return {"result": _unnumbered(record["result"])}


def _unnumbered(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("Parameter#N", "Parameter")
    if isinstance(value, list):
        return [_unnumbered(item) for item in value]
    if isinstance(value, dict):
        return {name: _unnumbered(item) for name, item in value.items()}
    return value


#: What the records use of upper floors, which may not be built yet.
UPPER = {
    "load_param_into_net": "paramesh.checkpoint",
    "WithLossCell": "paramesh.train",
    "TrainOneStepCell": "paramesh.train",
}


@pytest.mark.parametrize("record", [*RUN, *RULES], ids=goldens.case_id)
def test_record(record: dict[str, Any]) -> None:
    for name, module in UPPER.items():
        if name in record["code"] and importlib.util.find_spec(module) is None:
            pytest.skip(f"there is no {module} yet")
    got, expected = recorded.outcome(record), expected_of(record)
    difference = DIFFERENCES.get(key(record))
    if difference is None:
        assert recorded.agrees(got, expected), got
        return
    assert not recorded.agrees(got, expected), "no longer differs: take it off the list"
    assert recorded.agrees(got, difference["paramesh"]), got
    if difference.get("values") == "same":
        context.reset_auto_parallel_context()
        assert recorded.agrees(recorded.outcome(record, run_recipes=True), expected)


def test_every_listed_difference_is_of_a_record() -> None:
    there = {key(r) for r in goldens.records(*AREAS, "r1.x")}
    assert set(DIFFERENCES) | set(LEFT) <= there
    assert not set(DIFFERENCES) & set(LEFT)
    assert len(DIFFERENCES) == len(LISTED["differences"])


def test_every_rule_is_used() -> None:
    used = {d["rule"] for d in [*LISTED["differences"], *LISTED["left"]]}
    assert used == set(LISTED["rules"])


def test_no_stated_difference_equals_what_mindspore_does() -> None:
    # The serialiser and the comparison are right only if they can say no.
    record = {"area": "x", "case": "y", "code": "Parameter(1.0, name='w')"}
    got = recorded.outcome(record)
    assert recorded.agrees(got, {"result": recorded.plain(recorded.run(record))})
    assert not recorded.agrees(got, {"result": {**got["result"], "value": 2.0}})
    assert not recorded.agrees(got, {"error": "TypeError"})
    failed = recorded.outcome({"code": "Parameter('a')"})
    assert recorded.agrees(failed, {"error": "TypeError"})
    assert not recorded.agrees(failed, {"error": "ValueError"})
