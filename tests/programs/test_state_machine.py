"""Programs over Parameters against plain numpy: any order of steps, writes, copies and changes.

A machine of hypothesis makes up sequences of what a user can do to a network, its optimizers and
their Parameters, and does the same to the model in `model.py`. Whatever no program computed must
be equal bit for bit.
"""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from jax.experimental.compilation_cache import compilation_cache

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, context, nn
from paramesh.initializer import Normal, initializer
from programs import model

#: The machine changes networks behind the backs of their optimizers, which say so.
pytestmark = pytest.mark.filterwarnings("ignore::paramesh.errors.UntrainedWarning")

Array = np.ndarray[Any, Any]

#: Sizes from layer to layer: many small Parameters, and fewer than optimizers join.
SIZES = {"many": (3, 3, 3, 4, 3, 3, 2, 3, 3, 3, 3), "few": (3, 4, 3, 3)}
BATCHES = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
TARGETS = np.random.default_rng(1).uniform(-0.5, 0.5, size=(4, 3)).astype(np.float32)
MOST_LAYERS, MOST_OPTIMIZERS, MOST_VIEWS = 12, 3, 40


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile each program once for all examples, and without most optimizations."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,
    }
    before = {name: jax.config.values[name] for name in settings}
    compilation_cache.reset_cache()
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


class Layer(nn.Cell):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = Parameter(initializer(Normal(0.6), [outputs, inputs]))
        self.bias = Parameter(initializer(Normal(0.2), [outputs]))

    def construct(self, x: Any) -> Any:
        weight, bias = (p.astype(paramesh.float32) for p in (self.weight, self.bias))
        return (x @ weight.T + bias).tanh()


class Net(nn.Cell):
    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = Parameter(Tensor(np.zeros(3, np.float32)), requires_grad=False)
        self.layers = nn.CellList([Layer(n, m) for n, m in itertools.pairwise(sizes)])

    def construct(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        if self.training:
            self.mean.assign(self.mean * 0.5 + x.mean(0) * 0.5)
        return x


MAKERS: dict[str, Callable[[Any, float], Any]] = {
    "Adam": lambda params, rate: nn.Adam(params, rate, eps=model.EPS),
    "AdamWeightDecay": lambda params, rate: nn.AdamWeightDecay(
        params, rate, eps=model.EPS, weight_decay=model.DECAY
    ),
    "Momentum": lambda params, rate: nn.Momentum(params, rate, 0.9, weight_decay=model.DECAY),
    "SGD": lambda params, rate: nn.SGD(params, rate, momentum=0.9),
    "plain SGD": lambda params, rate: nn.SGD(params, rate),
}

#: Ways by which a value leaves a Parameter; each result must stay as it is for good.
DOORS: dict[str, Callable[[Parameter], Any]] = {
    "value": lambda p: p.value(),
    "asnumpy": lambda p: p.asnumpy(),
    "numpy view": np.asarray,
    "Tensor": lambda p: Tensor(p),
    "Parameter": lambda p: Parameter(p, name="taken"),
    "computed": lambda p: p + 0,
    "jax": jnp.asarray,
    "jax, of the value": lambda p: jnp.asarray(p.value()),
    "placed": lambda p: jax.device_put(jnp.asarray(p), jax.devices()[0]),
    "DLPack to numpy": np.from_dlpack,
    "DLPack to jax": jnp.from_dlpack,
    "clone": lambda p: p.clone(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "tuple": lambda p: ParameterTuple([p]).clone("taken")[0],
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
    "slice": lambda p: p[:],
    "rows": lambda p: Tensor(jnp.stack([jnp.asarray(row) for row in p])),
    "leaf": lambda p: jax.tree_util.tree_leaves(p)[0],
}

WRITES: dict[str, Callable[[Parameter, Array], Any]] = {
    "set_data": lambda p, new: p.set_data(Tensor(new)),
    "assign": lambda p, new: p.assign(Tensor(new)),
    "assign of an array": lambda p, new: p.assign(new),
    "assign_value": lambda p, new: p.assign_value(Tensor(new)),
    "all items": lambda p, new: p.__setitem__(slice(None), Tensor(new)),
}

COPIES: dict[str, Callable[[Parameter, Parameter], Any]] = {
    "set_data": lambda p, q: p.set_data(q),
    "set_data of the value": lambda p, q: p.set_data(q.value()),
    "assign": lambda p, q: p.assign(q),
    "assign of an array": lambda p, q: p.assign(jnp.asarray(q)),
    "assign_value": lambda p, q: p.assign_value(q),
}

#: Which of some Parameters: every (start, stride).
PICKS = {"first": (0, 100), "some": (1, 7), "every other": (0, 2), "all": (0, 1)}
picks = st.sampled_from(sorted(PICKS))
numbers = st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.5])
whole = st.integers(0, 63)


def pick(items: list[Any], which: str) -> list[Any]:
    start, stride = PICKS[which]
    return items[start::stride]


def shifted(params: list[Parameter]) -> Any:
    """A program that writes these Parameters and reads them again."""

    @paramesh.jit
    def shift(by: Any) -> Any:
        for param in params:
            param.assign(param.astype(paramesh.float32) + by)
        return [param + 0 for param in params]

    return shift


class Trained:
    """An optimizer and its model."""

    def __init__(self, optimizer: Any, of: model.Optimizer) -> None:
        self.optimizer, self.of = optimizer, of


class Machine(RuleBasedStateMachine):
    """A network, its optimizers, and what was taken out of them before."""

    @initialize(
        size=st.sampled_from(sorted(SIZES)),
        kind=st.sampled_from(sorted(MAKERS)),
        checks=st.sampled_from(["always", "sometimes", "at the end"]),
    )
    def begin(self, size: str, kind: str, checks: str) -> None:
        paramesh.set_seed(11)
        self.checks = checks
        self.count = 0
        self.net = Net(SIZES[size])
        self.records: dict[Parameter, model.Record] = {}
        self.of = model.Network([], self.net.mean)
        for layer in self.net.layers:
            assert isinstance(layer, Layer)
            self._met(layer)
        self.records[self.net.mean] = model.Record(
            self.net.mean, np.zeros(3, np.float32), requires_grad=False
        )
        self.trained: list[Trained] = []
        self.programs: dict[Any, Any] = {}
        self.fresh: set[Any] = set()
        self.views: list[tuple[str, Any, Array]] = []
        self.others: list[list[tuple[Parameter, model.Record]]] = []
        self.saved: list[tuple[str, str, dict[str, Array]]] = []
        self.folder = tempfile.TemporaryDirectory()
        self._train(kind, "all")

    def teardown(self) -> None:
        context.reset()
        if not hasattr(self, "folder"):
            return
        self.folder.cleanup()
        if sys.exc_info()[0] is None:
            self._look()
            self._look_at_others()

    # What every rule needs.

    def _met(self, layer: Layer) -> None:
        """Note a new layer whose recipes have not run."""
        for param in (layer.weight, layer.bias):
            recipe = param.recipe
            assert recipe is not None
            self.records[param] = model.Record(param, np.asarray(recipe.compute()))
        self.of.layers.append([layer.weight, layer.bias])

    def _look(self) -> None:
        for param, record in self.records.items():
            record.compare(param.asnumpy(), param)

    def _look_at_others(self) -> None:
        for others in self.others:
            for param, record in others:
                record.compare(param.asnumpy(), param)

    def _params(self, of_state: bool = True, signed: bool = False) -> list[Parameter]:
        """Parameters of at least one axis, in an order that never depends on chance.

        Args:
            of_state: the optimizers' state too.
            signed: without state of which the square root is taken.
        """
        found = dict.fromkeys(self.of.params())
        for one in self.trained:
            found.update(dict.fromkeys(one.of.params))
            if of_state:
                found.update(dict.fromkeys(one.of.own(signed)))
        return [p for p in found if self.records[p].value.dtype.kind == "f" and p.ndim]

    def _of_shape(self, like: Parameter) -> list[Parameter]:
        value = self.records[like].value
        return [
            p
            for p in self._params(signed=True)
            if (self.records[p].value.shape, self.records[p].value.dtype)
            == (value.shape, value.dtype)
        ]

    def _changed(self) -> None:
        """Programs may have to be compiled again."""
        self.fresh.clear()

    def _call(self, key: Any, make: Callable[[], Any], *args: Any, thread: bool = False) -> Any:
        """Run a program, which may only be traced again if something changed."""
        program = self.programs.get(key)
        if program is None:
            program = self.programs[key] = make()
        before = program.traces
        if thread:
            out: list[Any] = []
            runner = threading.Thread(target=lambda: out.append(program(*args)))
            runner.start()
            runner.join()
            (result,) = out
        else:
            result = program(*args)
        if program.traces != before:
            assert key not in self.fresh, f"{key} was traced again without a reason"
            self._changed()  # pools may have been formed
        self.fresh.add(key)
        return result

    def _train(self, kind: str, which: str) -> None:
        rate = 0.05
        params = pick([p for p in self.of.params() if self.records[p].requires_grad], which)
        if not params:
            return
        assert params == pick(self.net.trainable_params(), which)
        optimizer = MAKERS[kind](params, rate)
        names = ["global_step", "learning_rate", *model.NUMBERS[kind], *model.STATE[kind]]
        state = {name: getattr(optimizer, name) for name in names}
        state = {n: list(s) if isinstance(s, tuple) else s for n, s in state.items()}
        of = model.Optimizer(kind, params, state)
        of.first_records(self.records, rate)
        self.trained.append(Trained(optimizer, of))
        self._changed()

    # Training.

    def _step(self, chosen: list[Trained]) -> Any:
        net = self.net
        pairs = [
            (
                paramesh.value_and_grad(
                    lambda x, y: ((net(x) - y) ** 2).sum(), None, one.optimizer.parameters
                ),
                one.optimizer,
            )
            for one in chosen
        ]

        @paramesh.jit
        def step(x: Any, y: Any) -> Any:
            losses = []
            for gradients, optimizer in pairs:
                loss, grads = gradients(x, y)
                optimizer(grads)
                losses.append(loss)
            return losses

        return step

    def _update(self, one: Trained, grads: dict[Parameter, Array], last: bool = True) -> None:
        one.of.update(self.records, grads)
        if not any(self.records[p].value.dtype == np.float16 for p in self._params()):
            return
        for param in (*one.of.params, *one.of.own()):
            self.records[param].coarse = True  # gradients of Float16 Parameters are Float16
        if last:  # a program of several updates has made all of them
            self._look()  # what another rounding does would grow too quickly

    def _compare_losses(self, losses: Any, chosen: list[Trained], batch: int) -> None:
        for loss, one in zip(losses, chosen, strict=True):
            expected, grads = self.of.gradients(self.records, BATCHES[batch], TARGETS)
            self._update(one, grads, last=one is chosen[-1])
            np.testing.assert_allclose(float(loss), expected, rtol=5e-3, atol=1e-3)

    @precondition(lambda self: self.trained)
    @rule(which=whole, batch=st.integers(0, 2), times=st.integers(1, 3), thread=st.booleans())
    def step(self, which: int, batch: int, times: int, thread: bool) -> None:
        one = self.trained[which % len(self.trained)]
        for _ in range(times):
            losses = self._call(
                ("step", one),
                lambda: self._step([one]),
                Tensor(BATCHES[batch]),
                Tensor(TARGETS),
                thread=thread,
            )
            self._compare_losses(losses, [one], batch)

    @precondition(lambda self: len(self.trained) > 1)
    @rule(batch=st.integers(0, 2), swap=st.booleans())
    def step_of_two(self, batch: int, swap: bool) -> None:
        chosen = self.trained[:2]
        chosen = chosen[::-1] if swap else chosen
        losses = self._call(
            ("steps", *chosen),
            lambda: self._step(chosen),
            Tensor(BATCHES[batch]),
            Tensor(TARGETS),
        )
        self._compare_losses(losses, chosen, batch)

    @precondition(lambda self: self.trained)
    @rule(which=whole, number=numbers)
    def update_alone(self, which: int, number: float) -> None:
        one = self.trained[which % len(self.trained)]
        values = [np.full(self.records[p].value.shape, number, np.float32) for p in one.of.params]
        one.optimizer(tuple(Tensor(v) for v in values))
        self._changed()
        self._update(one, dict(zip(one.of.params, values, strict=True)))

    @precondition(lambda self: self.trained)
    @rule(which=whole, batch=st.integers(0, 2))
    def pynative_step(self, which: int, batch: int) -> None:
        one = self.trained[which % len(self.trained)]
        context.set_context(mode=context.PYNATIVE_MODE)
        gradients = paramesh.value_and_grad(
            lambda x, y: ((self.net(x) - y) ** 2).sum(), None, one.optimizer.parameters
        )
        loss, grads = gradients(Tensor(BATCHES[batch]), Tensor(TARGETS))
        one.optimizer(grads)
        context.set_context(mode=context.GRAPH_MODE)
        self._compare_losses([loss], [one], batch)

    @precondition(lambda self: self.trained)
    @rule(which=whole, when=st.sampled_from(["assign", "forward", "update"]))
    def step_that_raises(self, which: int, when: str) -> None:
        one = self.trained[which % len(self.trained)]

        @paramesh.jit
        def fails(x: Any) -> None:
            for param in one.optimizer.parameters:
                param.assign(param * 2.0)
            if when != "assign":
                self.net(x)
            if when == "update":
                one.optimizer(tuple(p * 0.5 for p in one.optimizer.parameters))
            raise KeyError("on purpose")

        with pytest.raises(KeyError, match="on purpose"):
            fails(Tensor(BATCHES[0]))
        self._changed()

    @precondition(lambda self: self.trained)
    @rule(which=whole, rate=st.sampled_from([0.01, 0.05, 0.1]))
    def another_rate(self, which: int, rate: float) -> None:
        of = self.trained[which % len(self.trained)].of
        of.state["learning_rate"].set_data(rate)
        self.records[of.state["learning_rate"]].write(np.float32(rate))

    # Running without training.

    @rule(batch=st.integers(0, 2))
    def forward(self, batch: int) -> None:
        out = self.net(Tensor(BATCHES[batch]))
        self._changed()
        expected = self.of.run(self.records, BATCHES[batch])
        np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-2, atol=1e-3)

    @rule(which=whole, number=numbers)
    def functional_call(self, which: int, number: float) -> None:
        params = self._params(of_state=False)
        mine = [p for p in self.of.params() if p in params]
        param = mine[which % len(mine)]
        value = np.full(self.records[param].value.shape, number, np.float32)
        given = {self.records[param].name: value}
        out, _ = paramesh.functional_call(self.net, given, Tensor(BATCHES[0]), mutable=True)
        other = {p: copy.copy(r) for p, r in self.records.items()}
        other[param].value = value
        expected = self.of.forward(other, BATCHES[0])[-1]
        np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-2, atol=1e-3)

    @rule(which=picks, by=numbers)
    def written_in_a_program(self, which: str, by: float) -> None:
        params = pick(self._params(signed=True), which)
        seen = self._call(("shift", *params), lambda: shifted(params), np.float32(by))
        for param, now in zip(params, seen, strict=True):
            record = self.records[param]
            loose = record.loose
            record.store(record.value.astype(np.float32) + np.float32(by))
            record.loose = loose  # one addition, rounded as here
            if loose:
                record.loose += 1
            record.compare(now.asnumpy(), param)

    # Writing from outside.

    @rule(which=whole, door=st.sampled_from(sorted(WRITES)), seed=st.integers(0, 3))
    def written(self, which: int, door: str, seed: int) -> None:
        params = self._params()
        param = params[which % len(params)]
        value = self.records[param].value
        new = np.random.default_rng(seed).uniform(0.1, 0.9, value.shape).astype(value.dtype)
        WRITES[door](param, new)
        self.records[param].write(new)

    @rule(which=whole, number=numbers)
    def item_written(self, which: int, number: float) -> None:
        params = self._params(signed=True)
        param = params[which % len(params)]
        param[0] = number
        record = self.records[param]
        record.value = np.array(record.value)
        record.value[0] = number

    @rule(which=whole, kind=st.sampled_from(["constant", "normal"]))
    def recipe_written(self, which: int, kind: str) -> None:
        params = self._params(of_state=False)
        param = params[which % len(params)]
        record = self.records[param]
        init = 0.25 if kind == "constant" else Normal(0.6)
        recipe = initializer(init, record.value.shape, param.dtype)
        param.set_data(recipe)
        assert param.has_init
        assert param.recipe is not None
        record.write(np.asarray(param.recipe.compute()))

    @rule(which=whole, other=whole, door=st.sampled_from(sorted(COPIES)))
    def copied_from_another(self, which: int, other: int, door: str) -> None:
        params = self._params(signed=True)
        param = params[which % len(params)]
        alike = self._of_shape(param)
        source = alike[other % len(alike)]
        COPIES[door](param, source)
        mine, theirs = self.records[param], self.records[source]
        mine.value, mine.loose = theirs.value, theirs.loose

    # Taking out.

    @rule(which=whole, doors=st.lists(st.sampled_from(sorted(DOORS)), min_size=1, max_size=4))
    def taken(self, which: int, doors: list[str]) -> None:
        params = self._params()
        param = params[which % len(params)]
        for door in doors:
            view = DOORS[door](param)
            now = np.array(view)
            self.records[param].compare(now, param)
            self.views.append((f"{door} of {param.name}", view, now))
        del self.views[:-MOST_VIEWS]

    @rule(which=whole)
    def numpy_copies_are_free(self, which: int) -> None:
        params = self._params()
        params[which % len(params)].asnumpy()[...] = 99.0

    @rule()
    def views_are_dropped(self) -> None:
        self.views.clear()

    @rule()
    def all_read(self) -> None:
        self._look()

    # Copies of everything.

    @rule(how=st.sampled_from(["deepcopy", "pickle"]), go_on_with=st.sampled_from(["new", "old"]))
    def copied(self, how: str, go_on_with: str) -> None:
        old = (self.net, [one.optimizer for one in self.trained])
        new = copy.deepcopy(old) if how == "deepcopy" else pickle.loads(pickle.dumps(old))
        twins: dict[Parameter, Parameter] = {}
        for mine, theirs in zip([old[0], *old[1]], [new[0], *new[1]], strict=True):
            pairs = zip(mine.get_parameters(), theirs.get_parameters(), strict=True)
            for param, twin in pairs:
                assert twin is not param
                assert twins.setdefault(param, twin) is twin, "one Parameter became two"
        assert set(twins) == set(self.records)
        apart = {twin: copy.copy(self.records[param]) for param, twin in twins.items()}
        if go_on_with == "old":
            self.others.append(list(apart.items()))
        else:
            self.others.append(list(self.records.items()))
            self._go_on_with(new, twins, apart)
        del self.others[:-2]

    def _go_on_with(
        self, new: Any, twins: dict[Parameter, Parameter], records: dict[Parameter, model.Record]
    ) -> None:
        self.net, self.records = new[0], records
        training = self.of.training
        self.of = model.Network(
            [[twins[p] for p in layer] for layer in self.of.layers], twins[self.of.mean]
        )
        self.of.training = training
        self.trained = [
            Trained(
                optimizer,
                model.Optimizer(
                    one.of.kind,
                    [twins[p] for p in one.of.params],
                    {
                        n: [twins[p] for p in s] if isinstance(s, list) else twins[s]
                        for n, s in one.of.state.items()
                    },
                ),
            )
            for one, optimizer in zip(self.trained, new[1], strict=True)
        ]
        self.programs.clear()
        self._changed()

    @rule(which=whole)
    def saved_to_a_file(self, which: int) -> None:
        cells = [("net", self.net), *(("optimizer", one.optimizer) for one in self.trained)]
        kind, cell = cells[which % len(cells)]
        self.count += 1
        path = os.path.join(self.folder.name, f"{self.count}.safetensors")
        paramesh.save_checkpoint(cell, path)
        for param in cell.get_parameters():
            self.records[param].compare(param.asnumpy(), param)
        held = {p.name: self.records[p].value for p in cell.get_parameters()}
        read = paramesh.load_checkpoint(path)
        assert read.keys() == held.keys()
        for name, value in held.items():
            np.testing.assert_array_equal(read[name].asnumpy(), value, err_msg=name)
        self.saved.append((kind, path, held))

    @precondition(lambda self: self.saved)
    @rule(which=whole, state_dict=st.booleans())
    def loaded_from_a_file(self, which: int, state_dict: bool) -> None:
        kind, path, held = self.saved[which % len(self.saved)]
        cells = [self.net] if kind == "net" else [one.optimizer for one in self.trained]
        about = {name: (value.shape, value.dtype) for name, value in held.items()}
        for cell in cells:
            mine = {self.records[p].name: (p, self.records[p]) for p in cell.get_parameters()}
            if {n: (r.value.shape, r.value.dtype) for n, (_, r) in mine.items()} != about:
                continue
            if state_dict:
                paths = {p.name: at for at, p in cell.parameters_and_names()}
                cell.load_state_dict({paths[n]: Tensor(value) for n, value in held.items()})
            else:
                paramesh.load_checkpoint(path, cell)
            for name, (_, record) in mine.items():
                record.write(held[name])
            return

    # Changes of structure.

    @rule(kind=st.sampled_from(sorted(MAKERS)), which=picks)
    def another_optimizer(self, kind: str, which: str) -> None:
        if len(self.trained) < MOST_OPTIMIZERS:
            self._train(kind, which)

    @precondition(lambda self: self.trained)
    @rule(which=whole, keep_programs=st.booleans())
    def optimizer_dropped(self, which: int, keep_programs: bool) -> None:
        gone = self.trained.pop(which % len(self.trained))
        kept = {*self.of.params()}
        for one in self.trained:
            kept |= {*one.of.params, *one.of.own()}
        self.records = {p: r for p, r in self.records.items() if p in kept}
        self.programs = {
            key: program
            for key, program in self.programs.items()
            if not any(item is gone or item in gone.of.own() for item in key[1:])
        }
        del gone
        if not keep_programs:
            self.programs.clear()
        gc.collect()
        self._changed()

    @rule(which=whole, weight=st.booleans(), seed=st.integers(0, 3))
    def replaced(self, which: int, weight: bool, seed: int) -> None:
        at = which % len(self.of.layers)
        attribute = ("bias", "weight")[weight]
        record = self.records[self.of.layers[at][1 - weight]]
        self.count += 1
        new = np.random.default_rng(seed).normal(size=record.value.shape).astype(np.float32) * 0.5
        param = Parameter(Tensor(new), name=f"layers.{at}.{attribute}_{self.count}")
        setattr(self.net.layers[at], attribute, param)
        self._in_place_of(at, 1 - weight, param)
        self.records[param] = model.Record(param, new)

    @rule(which=whole, other=whole)
    def tied(self, which: int, other: int) -> None:
        """Two layers share a bias."""
        layers = self.of.layers
        at, source = which % len(layers), layers[other % len(layers)][1]
        if self.records[layers[at][1]].value.shape != self.records[source].value.shape:
            return
        self.net.layers[at].bias = source
        self._in_place_of(at, 1, source)

    def _in_place_of(self, at: int, column: int, param: Parameter) -> None:
        self.of.layers[at][column] = param
        kept = {*self.of.params(), param}
        for one in self.trained:
            kept |= {*one.of.params, *one.of.own()}
        self.records = {p: r for p, r in self.records.items() if p in kept}
        self._changed()

    @rule()
    def layer_added(self) -> None:
        if len(self.of.layers) < MOST_LAYERS:
            self.net.layers.append(Layer(3, 3))
            self._met(self.net.layers[-1])
            self._changed()

    @rule(which=whole)
    def requires_grad_switched(self, which: int) -> None:
        params = self._params(of_state=False)
        param = params[which % len(params)]
        if param is self.of.mean:
            return
        record = self.records[param]
        param.requires_grad = record.requires_grad = not record.requires_grad
        self._changed()

    @rule(on=st.booleans())
    def train_switched(self, on: bool) -> None:
        self.net.set_train(on)
        self.of.training = on
        self._changed()

    @rule(which=whole, of_state=st.booleans())
    def dtype_switched(self, which: int, of_state: bool) -> None:
        params = self._params(of_state)
        param = params[which % len(params)]
        record = self.records[param]
        record.compare(param.asnumpy(), param)
        half = record.value.dtype != np.float16
        param.set_dtype(paramesh.float16 if half else paramesh.float32)
        record.value = record.value.astype(np.float16 if half else np.float32)
        self._changed()

    @rule(which=whole)
    def renamed(self, which: int) -> None:
        params = self._params(of_state=False)
        param = params[which % len(params)]
        self.count += 1
        param.name = self.records[param].name = f"renamed.{self.count}.weight"
        self._changed()

    @precondition(lambda self: self.trained)
    @rule(
        which=whole,
        other=whole,
        change=st.sampled_from(
            ["layer", "replaced", "tied", "requires_grad", "train", "dtype", "renamed"]
        ),
    )
    def step_change_step(self, which: int, other: int, change: str) -> None:
        """The same program before and after, which must not be the same program any more."""
        self.step(which, 0, 1, thread=False)
        match change:
            case "layer":
                self.layer_added()
            case "replaced":
                self.replaced(other, weight=bool(other % 2), seed=other % 4)
            case "tied":
                self.tied(other, other // 2)
            case "requires_grad":
                self.requires_grad_switched(other)
            case "train":
                self.train_switched(not self.of.training)
            case "dtype":
                self.dtype_switched(other, of_state=False)
            case _:
                self.renamed(other)
        self.step(which, 1, 1, thread=False)

    # Invariants.

    @invariant()
    def as_in_the_model(self) -> None:
        if not hasattr(self, "checks"):
            return
        self.turns = getattr(self, "turns", 0) + 1
        if self.checks == "always" or (self.checks == "sometimes" and self.turns % 5 == 0):
            self._look()
            self._look_at_others()

    @invariant()
    def views_are_as_they_were(self) -> None:
        for what, view, was in getattr(self, "views", ()):
            np.testing.assert_array_equal(np.asarray(view), was, err_msg=what)


class TestShort(Machine.TestCase):
    settings = hypothesis.settings(max_examples=4, stateful_step_count=25)


@pytest.mark.slow
class TestLong(Machine.TestCase):
    settings = hypothesis.settings(max_examples=150, stateful_step_count=50)
