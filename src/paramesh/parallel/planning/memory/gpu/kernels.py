"""What the compiler of GPUs makes of kernels before it brings them into an order.

Glossary
    update      a kernel that makes new values of a Parameter and its states
    parts       of a product; see `splitting.py`
"""

from __future__ import annotations

import collections
import math
from collections.abc import Hashable, Iterable, Mapping

from paramesh.parallel.planning.memory.cheap import is_elementwise
from paramesh.parallel.planning.memory.gpu.orders import is_along_inner
from paramesh.parallel.planning.memory.gpu.splitting import WEIGHTS, Product, parts_of
from paramesh.parallel.planning.memory.gpu.times import running, sending
from paramesh.parallel.planning.memory.kernel import Buffer, Kernel, in_order
from paramesh.parallel.planning.memory.shards import Shards
from paramesh.parallel.search.graph import Operator
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import Spec, steps


def collective_of(
    sizes: tuple[int, ...], start: Spec, end: Spec
) -> tuple[str, tuple[int, ...]] | None:
    """Kind and axes of the last collective between two layouts; None if nothing is sent."""
    found = [step for step in steps(sizes, start, end) if step.sent]
    return (found[-1].kind, found[-1].axes) if found else None


def of_gpus(
    plan: Plan, shards: Shards, outputs: Mapping[int, bool], kernels: list[Kernel]
) -> list[Kernel]:
    """Kernels as a GPU runs them, in an order in which each comes after what it reads.

    Args:
        plan: that they are of.
        shards: its tensors.
        outputs: its results; whether each takes the place of an argument.
        kernels: in the order of the program.
    """
    return _OfGpus(plan, shards, outputs, kernels).run()


class _OfGpus:
    def __init__(
        self, plan: Plan, shards: Shards, outputs: Mapping[int, bool], kernels: list[Kernel]
    ) -> None:
        self._plan, self._problem, self._graph = plan, plan.problem, plan.problem.graph
        self._shards, self._outputs, self._kernels = shards, outputs, kernels

    def run(self) -> list[Kernel]:
        self._gather_results()
        self._kernels = self._updates_as_one()
        self._kernels = self._in_parts()
        self._take_time()
        return in_order(self._kernels, self._as_results_ask())

    def _as_results_ask(self) -> list[int]:
        """The numbers of the kernels that make results, in the order of those."""
        makers = {buffer: at for at, kernel in enumerate(self._kernels) for buffer in kernel.makes}
        found: list[int] = []
        for number, tensor in enumerate(self._graph.outputs):
            if tensor is not None:
                own = (("result", number), (tensor, self._shards.home(tensor)))
                found += [makers[buffer] for buffer in own if buffer in makers][:1]
        return found

    def _take_time(self) -> None:
        """Have each kernel but collectives take the time of what it computes, reads and writes."""
        sizes = {b: size for kernel in self._kernels for b, size in kernel.makes.items()}
        target = self._plan.machine.target
        for kernel in self._kernels:
            if kernel.sends:
                continue
            moved = sum(sizes.get(buffer, 0.0) for buffer in (*kernel.reads, *kernel.makes))
            for tensor, *_ in kernel.makes:
                if isinstance(tensor, int) and self._outputs.get(tensor):
                    moved += 2 * self._shards.part(tensor, self._shards.home(tensor))
            operator = self._graph.operators[kernel.place]
            made = operator.outputs[0][0]
            computes = operator.flops and any(made in buffer for buffer in kernel.makes)
            flops = operator.flops / self._shards.devices_of(operator) if computes else 0.0
            kernel.seconds = running(operator, flops, moved, target)

    def _gather_results(self) -> None:
        """Send results at the end that lie otherwise than they are computed."""
        sizes = self._plan.machine.sizes
        for number, tensor in enumerate(self._graph.outputs):
            source = self._plan.program.tied.get(number)
            if tensor is None or source is None:
                continue
            home, wanted = self._shards.home(tensor), self._plan.input_spec(source)
            sends = collective_of(sizes, home, wanted)
            if sends is None:
                continue
            place = self._graph.tensors[tensor].maker
            result: Buffer = ("result", number)
            self._give_size((tensor, home), self._shards.part(tensor, home))
            took = sending(sizes, home, wanted, self._graph.tensors[tensor].nbytes)
            gathered = Kernel(place, {(tensor, home)}, {result: 0.0}, seconds=took, sends=sends)
            self._kernels.append(gathered)
            if is_along_inner(sizes, home, wanted):
                whole: Buffer = ("gathered", *result)
                gathered.makes = {whole: self._shards.part(tensor, wanted)}
                self._kernels.append(Kernel(place, {whole}, {result: 0.0}))

    def _give_size(self, buffer: Buffer, size: float) -> None:
        for kernel in self._kernels:
            if buffer in kernel.makes:
                kernel.makes[buffer] = size

    def _updates_as_one(self) -> list[Kernel]:
        """The kernels, with those that update a Parameter and its states as one.

        They compute results of one size from one array, or from each other.
        """
        found: list[Kernel] = []
        by_source: dict[Hashable, Kernel] = {}
        makers: dict[Buffer, Kernel] = {}
        for kernel in self._kernels:
            tensors = [b[0] for b in kernel.makes if isinstance(b[0], int)]
            is_update = bool(kernel.makes) and len(tensors) == len(kernel.makes)
            if not (is_update and all(map(self._outputs.get, tensors))) or (
                not self._is_elementwise(kernel)
            ):
                found.append(kernel)
                continue
            nbytes = self._graph.tensors[tensors[0]].nbytes
            own = [makers[b] for b in kernel.reads if b in makers]
            own += [by_source[b, nbytes] for b in kernel.reads if (b, nbytes) in by_source]
            first = own[0] if own else kernel
            if own:
                first.reads |= kernel.reads - first.makes.keys()
                first.makes |= kernel.makes
                first.seconds += kernel.seconds
            else:
                found.append(kernel)
            makers |= dict.fromkeys(kernel.makes, first)
            for buffer in kernel.reads:
                if isinstance(buffer[0], int) and self._graph.tensors[buffer[0]].nbytes == nbytes:
                    by_source.setdefault((buffer, nbytes), first)
        return found

    def _in_parts(self) -> list[Kernel]:
        """The kernels with products whose sums are split; see `splitting.py`.

        The parts take the place of the result where all that read it can add them up on the way,
        and together read no more than if they were added up before.
        """
        weights = WEIGHTS.get(self._plan.machine.target.name)
        if weights is None:
            return self._kernels
        readers: dict[Buffer, list[Kernel]] = collections.defaultdict(list)
        for kernel in self._kernels:
            for buffer in kernel.reads:
                readers[buffer].append(kernel)
        found: list[Kernel] = []
        for kernel in self._kernels:
            found.append(kernel)
            operator = self._graph.operators[kernel.place]
            if operator.name != "dot_general" or kernel.sends or len(kernel.makes) != 1:
                continue
            if len(operator.inputs) < 2:
                continue  # by a constant: it is of no known shape
            ((buffer, size),) = kernel.makes.items()
            if buffer[0] != operator.outputs[0][0]:
                continue  # a copy of an operand
            parts = parts_of(self._product(operator), weights)
            users = readers[buffer]
            elementwise = all(map(self._is_elementwise, users))
            if parts == 1:
                continue
            passes = len({self._graph.operators[user.place].cluster for user in users})
            if elementwise and parts * passes <= parts + 1 + passes:
                kernel.makes[buffer] = size * parts
                continue
            split: Buffer = ("parts", *buffer)
            made, factors = operator.outputs[0]
            whole = self._shards.part(made, self._shards.of(operator.cluster, factors))
            kernel.makes = {split: whole * parts}
            added = Kernel(kernel.place, {split}, {buffer: size})
            added.loop, added.depth = kernel.loop, kernel.depth
            found.append(added)
        return found

    def _is_elementwise(self, kernel: Kernel) -> bool:
        return not kernel.sends and is_elementwise(self._graph.operators[kernel.place])

    def _product(self, operator: Operator) -> Product:
        """The part of a product that a device computes."""
        roots = self._graph.factors.roots
        left, right = (roots(factors) for _, factors in operator.inputs[:2])
        made = set(roots(operator.outputs[0][1])) - {None}
        chosen = self._plan.solution.choice[operator.cluster]
        strategy = self._problem.nodes[operator.cluster].strategies[chosen]
        parts: dict[int, int] = collections.defaultdict(lambda: 1)
        for factor, size in zip(strategy, self._problem.machine.sizes, strict=True):
            parts[factor] *= size

        def numbers(of: Iterable[int | None]) -> int:
            own = [f for f in of if f is not None]
            return math.prod(self._graph.factors.size(f) // parts[f] for f in own)

        a, b = set(left), set(right)
        tensor = operator.outputs[0][0]
        width = self._graph.tensors[tensor].nbytes // math.prod(self._graph.tensors[tensor].shape)
        return Product(
            numbers(a & b & made),
            numbers((a & made) - b),
            numbers((b & made) - a),
            numbers((a & b) - made),
            width,
        )
