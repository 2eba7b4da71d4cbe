"""The kernels of a plan's step: what a compiler makes of its operators, imitated in rough.

Which tensors become arrays in memory, what is computed from which of them, and what is copied on
the way. Compilers differ, so their habits are listed one by one (`HABITS`).

Glossary
    buffer      an array in memory: a tensor in one layout, on one device
    kernel      operators that run as one: one that computes much, or a chain of cheap ones whose
                tensors in between are never in memory
    cheap       operators that a compiler computes again rather than keep what they give:
                elementwise work, moves, broadcasts
    turned      of an operand: copied into the order in which a library of the CPU adds up
    loop        the operators of the body of a scan; by the path of the scan
"""

from __future__ import annotations

import collections
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from paramesh.parallel.planning.splitting import WEIGHTS, Product, parts_of
from paramesh.parallel.planning.tiles import (
    OF_CHIP,
    filled_up,
    in_rows,
    in_tiles,
    lanes_filled,
    of_images,
)
from paramesh.parallel.search.graph import BARRIER, Factored, Graph, Operator, Path
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, Spec, local, seconds, steps

Buffer = tuple[Hashable, ...]


@dataclass(frozen=True)
class Habits:
    """How the compiler of a platform goes about it.

    Attributes:
        through: elementwise work is computed from what is before other elementwise work, even where
            that is in memory for others.
        apart: reductions read what they add up from memory, and so do those of a product of two.
        turns: operands whose sums go along other dimensions than its libraries want are turned.
        takes: products take cheap operands as they are computed.
        takes_chains: products take operands that are computed from one array, number by number.
        early: kernels run as soon as what they read is there, in place of in the order of the
            program.
        zeros: what loops write into piece by piece is there from the beginning.
        hides: collectives run beside other kernels, in an order that is made for it (`hiding.py`),
            and products are computed in parts (`splitting.py`).
        on_chip: bytes of a memory that holds what it can of what passes, but for what kernels need
            as they run: the VMEM of TPUs ("How to Scale Your Model",
            jax-ml.github.io/scaling-book: 128 MiB on v5e).
    """

    through: bool = False
    apart: bool = False
    turns: bool = False
    takes: bool = False
    takes_chains: bool = False
    early: bool = False
    zeros: bool = False
    hides: bool = False
    on_chip: int = 0


_TPU = Habits(takes=True, on_chip=128 << 20)
_GPU = Habits(takes_chains=True, zeros=True, hides=True)
#: By target.
HABITS = {
    "cpu": Habits(through=True, apart=True, turns=True, early=True, zeros=True),
    "a100": _GPU,
    "h100": _GPU,
    "h200": _GPU,
    "v5e": _TPU,
    "v5p": _TPU,
    "v6e": _TPU,
}

#: Cheap ones that are still too dear for the CPU to be computed twice.
_DEAR = ("exp", "exp2", "log", "log1p", "tanh", "logistic", "erf", "div", "rsqrt", "sqrt", "pow")
#: Those that cost nothing at all.
_TRIVIAL = ("broadcast_in_dim", "reshape", "iota", "convert_element_type")
_MOVED = ("broadcast_in_dim", "transpose", "reshape", "slice", "rev")
#: Those that the CPU does as it adds up what they give.
_MULTIPLIED = ("mul", "square", "integer_pow")
#: Cheap ones that make a tensor smaller: what they give is kept.
_REDUCES = ("reduce_", "argmax", "argmin")
_PRODUCTS = ("dot_general", "conv_general_dilated")
_SUMS_OF_UPDATES = ("scatter-add", "scatter_add")
_ENTRIES = ("carry", "slice of scan")
_OF_LOOPS = ("carry", "slice of scan", "stack of scan", "end of turn")


#: What the compiler of GPUs counts with where it makes an order, read from its log for H100s
#: (jaxlib 0.10.2, its tables of measured products and collectives): the part of the peak that large
#: products in Float32 reach, the seconds of any convolution, and of collectives over eight seconds,
#: in proportion below so many bytes, and bytes in a second.
_REACHED = 0.3
_CONVOLVING = 1e-5
_STARTING = 3e-5
_SMALLEST = 512
_SENDING = 2.8e11


@dataclass
class Kernel:
    """See the glossary.

    Attributes:
        place: the number of its operator.
        reads: buffers, without arguments of the program.
        makes: buffer -> bytes; 0 for one that takes the place of an argument.
        replaces: the buffers among those that it reads whose place a result may take, if nobody
            needs them any more.
        passing: bytes that it needs while it runs.
        on_chip: bytes that it needs of the memory on the chip while it runs.
        seconds: that it takes in one turn of the loops around it, as modelled.
        sends: of a collective that runs beside others: its kind, and the axes that it goes over.
        has_collectives: whether it is a loop that sends, beside which nothing else is sent.
        loop: see the glossary; None outside of loops.
        depth: how many loops are around it.
    """

    place: int
    reads: set[Buffer] = field(default_factory=set)
    makes: dict[Buffer, float] = field(default_factory=dict)
    replaces: frozenset[Buffer] = frozenset()
    passing: float = 0.0
    on_chip: float = 0.0
    seconds: float = 0.0
    sends: tuple[str, tuple[int, ...]] | None = None
    has_collectives: bool = False
    loop: Path | None = None
    depth: int = 0


def in_order(kernels: Sequence[Kernel], first: Iterable[int] = ()) -> list[Kernel]:
    """Kernels, each after those that make what it reads.

    Args:
        kernels: in any order.
        first: the numbers of those that come first, with all that they need.
    """
    makers = {buffer: at for at, kernel in enumerate(kernels) for buffer in kernel.makes}
    order: list[Kernel] = []
    seen: set[int] = set()
    for root in (*first, *range(len(kernels))):
        todo = [(root, False)]
        while todo:
            at, is_done = todo.pop()
            if is_done:
                order.append(kernels[at])
            elif at not in seen:
                seen.add(at)
                todo.append((at, True))
                own = {makers[b] for b in kernels[at].reads if b in makers} - {at}
                todo += [(other, False) for other in sorted(own, reverse=True)]
    return order


def kernels_of(plan: Plan) -> list[Kernel]:
    """The kernels of a step, in the order of the program."""
    return _Kernels(plan).run()


class _Kernels:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.problem = plan, plan.problem
        self.graph, self.choice = plan.problem.graph, plan.solution.choice
        self._specs = _Specs(self.problem, self.choice)
        self._habits = HABITS.get(plan.machine.target.name, Habits())
        self._narrowing = plan.problem.narrowing
        self._outputs: dict[int, bool] = {}
        for number, tensor in enumerate(self.graph.outputs):
            if tensor is not None:
                self._outputs[tensor] = number in plan.program.tied
        self._users: dict[int, list[int]] = collections.defaultdict(list)
        for number, operator in enumerate(self.graph.operators):
            for tensor, _ in operator.inputs:
                self._users[tensor].append(number)
        self._updates = {
            op.inputs[-1][0] for op in self.graph.operators if op.name in _SUMS_OF_UPDATES
        }
        self._images = of_images(self.graph)
        self._loops = {op.path[:-2] for op in self.graph.operators if op.name in _OF_LOOPS}
        self._kernels: list[Kernel] = []
        self._zeros: list[Kernel] = []
        #: By kernel of a convolution: how much larger images are that are filled up for it; and
        #: those images, with the places that the kernel has.
        self._padding: dict[int, float] = {}
        self._padded: set[tuple[int, int]] = set()
        #: What a tensor is read from where it is wanted in memory: itself, if it is kept.
        self._sources: dict[Buffer, frozenset[Buffer]] = {}
        #: What elementwise work reads in its place.
        self._again: dict[Buffer, frozenset[Buffer]] = {}
        self._copies: set[Buffer] = set()
        self._timed: set[int] = set()

    def run(self) -> list[Kernel]:
        for number, operator in enumerate(self.graph.operators):
            before = len(self._kernels)
            self._operator(number, operator)
            loops = self._loops_around(operator)
            for kernel in self._kernels[before:]:
                kernel.loop, kernel.depth = loops[0] if loops else None, len(loops)
            if not self._habits.hides:
                self._take_time(self._kernels[before:], operator)
        self._kernels[:0] = self._zeros
        if self._habits.hides:
            self._gather_results()
            self._kernels = self._updates_as_one()
            self._kernels = self._in_parts()
            self._take_own_time()
            self._kernels = in_order(self._kernels, self._as_results_ask())
        return self._kernels

    def _as_results_ask(self) -> list[int]:
        """The numbers of the kernels that make results, in the order of those."""
        makers = {buffer: at for at, kernel in enumerate(self._kernels) for buffer in kernel.makes}
        found: list[int] = []
        for number, tensor in enumerate(self.graph.outputs):
            if tensor is not None:
                own = (("result", number), (tensor, self._specs.home(tensor)))
                found += [makers[buffer] for buffer in own if buffer in makers][:1]
        return found

    def _take_own_time(self) -> None:
        """Have each kernel but collectives take the time of what it computes, reads and writes."""
        sizes = {b: size for kernel in self._kernels for b, size in kernel.makes.items()}
        target = self.plan.machine.target
        for kernel in self._kernels:
            if kernel.sends:
                continue
            moved = sum(sizes.get(buffer, 0.0) for buffer in (*kernel.reads, *kernel.makes))
            for tensor, *_ in kernel.makes:
                if isinstance(tensor, int) and self._outputs.get(tensor):
                    moved += 2 * self._part(tensor, self._specs.home(tensor))
            operator = self.graph.operators[kernel.place]
            kernel.seconds = moved / target.memory_bandwidth
            made = operator.outputs[0][0]
            if operator.flops and any(made in buffer for buffer in kernel.makes):
                if operator.name == "conv_general_dilated":
                    kernel.seconds = _CONVOLVING
                    continue
                parts = self._devices_of(operator)
                computing = operator.flops / parts / target.peak(operator.dtype)
                kernel.seconds = max(kernel.seconds, computing / _REACHED)

    def _devices_of(self, operator: Operator) -> int:
        """Over how many devices the work of an operator is."""
        strategy = self.problem.nodes[operator.cluster].strategies[self.choice[operator.cluster]]
        sizes = zip(strategy, self.problem.machine.sizes, strict=True)
        return math.prod(size for factor, size in sizes if factor != REPLICATED)

    def _gather_results(self) -> None:
        """Results that lie otherwise than they are computed are sent at the end."""
        for number, tensor in enumerate(self.graph.outputs):
            source = self.plan.program.tied.get(number)
            if tensor is None or source is None:
                continue
            home, wanted = self._specs.home(tensor), self.plan.input_spec(source)
            sends = self._collective(home, wanted)
            if sends is None:
                continue
            place = self.graph.tensors[tensor].maker
            result: Buffer = ("result", number)
            self._give_size((tensor, home), self._part(tensor, home))
            took = self._sending(tensor, home, wanted)
            gathered = Kernel(place, {(tensor, home)}, {result: 0.0}, seconds=took, sends=sends)
            self._kernels.append(gathered)
            if self._is_along_inner(home, wanted):
                whole: Buffer = ("gathered", *result)
                gathered.makes = {whole: self._part(tensor, wanted)}
                self._kernels.append(Kernel(place, {whole}, {result: 0.0}))

    def _give_size(self, buffer: Buffer, size: float) -> None:
        for kernel in self._kernels:
            if buffer in kernel.makes:
                kernel.makes[buffer] = size

    def _part(self, tensor: int, spec: Spec) -> float:
        return local(self.problem.machine, self.graph.tensors[tensor].nbytes, spec)

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
            is_update = is_update and all(map(self._outputs.get, tensors)) and not kernel.sends
            if not is_update or not _elementwise(self.graph.operators[kernel.place]):
                found.append(kernel)
                continue
            nbytes = self.graph.tensors[tensors[0]].nbytes
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
                if isinstance(buffer[0], int) and self.graph.tensors[buffer[0]].nbytes == nbytes:
                    by_source.setdefault((buffer, nbytes), first)
        return found

    def _in_parts(self) -> list[Kernel]:
        """The kernels with products whose sums are split; see `splitting.py`.

        The parts take the place of the result where all that read it can add them up on the way,
        and together read no more than if they were added up before.
        """
        weights = WEIGHTS.get(self.plan.machine.target.name)
        if weights is None:
            return self._kernels
        readers: dict[Buffer, list[Kernel]] = collections.defaultdict(list)
        for kernel in self._kernels:
            for buffer in kernel.reads:
                readers[buffer].append(kernel)
        found: list[Kernel] = []
        for kernel in self._kernels:
            found.append(kernel)
            operator = self.graph.operators[kernel.place]
            if operator.name != "dot_general" or kernel.sends or len(kernel.makes) != 1:
                continue
            ((buffer, size),) = kernel.makes.items()
            if buffer[0] != operator.outputs[0][0]:
                continue  # a copy of an operand
            parts = parts_of(self._product(operator), weights)
            users = readers[buffer]
            elementwise = all(
                not user.sends and _elementwise(self.graph.operators[user.place]) for user in users
            )
            if parts == 1:
                continue
            passes = len({self.graph.operators[user.place].cluster for user in users})
            if elementwise and parts * passes <= parts + 1 + passes:
                kernel.makes[buffer] = size * parts
                continue
            split: Buffer = ("parts", *buffer)
            kernel.makes = {split: self._size_of_result(operator) * parts}
            added = Kernel(kernel.place, {split}, {buffer: size})
            added.loop, added.depth = kernel.loop, kernel.depth
            found.append(added)
        return found

    def _product(self, operator: Operator) -> Product:
        """The part of a product that a device computes."""
        roots = self.graph.factors.roots
        left, right = (roots(factors) for _, factors in operator.inputs[:2])
        made = set(roots(operator.outputs[0][1])) - {None}
        strategy = self.problem.nodes[operator.cluster].strategies[self.choice[operator.cluster]]
        parts: dict[int, int] = collections.defaultdict(lambda: 1)
        for factor, size in zip(strategy, self.problem.machine.sizes, strict=True):
            parts[factor] *= size

        def numbers(of: Iterable[int | None]) -> int:
            own = [f for f in of if f is not None]
            return math.prod(self.graph.factors.size(f) // parts[f] for f in own)

        a, b = set(left), set(right)
        tensor = operator.outputs[0][0]
        width = self.graph.tensors[tensor].nbytes // math.prod(self.graph.tensors[tensor].shape)
        return Product(
            numbers(a & b & made),
            numbers((a & made) - b),
            numbers((b & made) - a),
            numbers((a & b) - made),
            width,
        )

    def _size_of_result(self, operator: Operator) -> float:
        tensor, factors = operator.outputs[0]
        nbytes = self.graph.tensors[tensor].nbytes
        return local(self.problem.machine, nbytes, self._specs.of(operator.cluster, factors))

    def _take_time(self, kernels: list[Kernel], operator: Operator) -> None:
        """Have the first kernel of a cluster take its time."""
        cluster = operator.cluster
        if kernels and cluster not in self._timed:
            self._timed.add(cluster)
            node = self.problem.nodes[cluster]
            took = float(node.seconds[self.choice[cluster]]) / node.times
            if self._habits.on_chip:
                took *= lanes_filled(self.problem, self.choice, operator)
            kernels[-1].seconds += took

    def _loops_around(self, operator: Operator) -> list[Path]:
        path = operator.path
        starts = (path[:end] for end in range(1, len(path)))
        return [start for start in starts if start in self._loops]

    def _operator(self, number: int, operator: Operator) -> None:
        reads: set[Buffer] = set()
        again: set[Buffer] = set()
        for place, (tensor, factors) in enumerate(operator.inputs):
            if self._is_turned(operator, place):
                reads.add(self._turned(number, tensor, self._specs.of(operator.cluster, factors)))
                continue
            if self._habits.hides and place == 1 and self._has_kernel(operator):
                reads |= self._kernel_of(number, tensor, operator.cluster, factors)
                continue
            if (padded := self._padded_image(number, operator, tensor)) is not None:
                reads |= padded
                continue
            own, sources = self._operand(number, tensor, operator.cluster, factors)
            reads |= own
            again |= sources
        elementwise = self._habits.through and _elementwise(operator)
        if elementwise and operator.name not in _DEAR:
            for tensor, _ in operator.outputs:
                self._again[tensor, self._specs.home(tensor)] = frozenset(again)
        if elementwise and not self._is_added_up(operator):
            reads = again
        self._results(number, operator, reads)

    def _has_kernel(self, operator: Operator) -> bool:
        """Whether the second operand of a convolution is a kernel, not an image as for gradients."""
        if operator.name != "conv_general_dilated" or len(operator.inputs) < 2:
            return False
        kernel, made = (_space(self.graph, *own) for own in (operator.inputs[1], operator.outputs[0]))
        return kernel < made

    def _kernel_of(
        self, number: int, tensor: int, cluster: int, factors: Factored
    ) -> frozenset[Buffer]:
        """The copy of a kernel for the library of GPUs, which wants its inputs as last dimension.

        One is for the convolution and for the gradient of its image, which is of the reversed kernel.
        """
        maker = self.graph.tensors[tensor].maker
        if maker >= 0 and self.graph.operators[maker].name == "rev":
            tensor = self.graph.operators[maker].inputs[0][0]
        wanted = self._specs.of(cluster, factors)
        copy: Buffer = ("kernel", tensor, wanted)
        if copy not in self._copies:
            self._copies.add(copy)
            reads, _ = self._operand(number, tensor, cluster, factors)
            self._kernels.append(Kernel(number, set(reads), {copy: self._part(tensor, wanted)}))
        return frozenset([copy])

    def _padded_image(self, number: int, operator: Operator, image: int) -> frozenset[Buffer] | None:
        """The copy of an image that is filled up for the library of GPUs, which fills up both sides alike.

        One is for the convolution and for the gradient of its kernel. None where no copy is needed.
        """
        if not self._habits.hides or operator.name != "conv_general_dilated":
            return None
        graph, made = self.graph, operator.outputs[0]
        if image == operator.inputs[0][0] and self._has_kernel(operator):
            more = _filling(graph, operator)
            key = image, _space(graph, *operator.inputs[1])
            if more == 1.0:
                return None
            self._padding[operator.inputs[1][0]] = more
            self._padded.add(key)
        else:
            key, more = (image, _space(graph, *made)), 1.0
            if key not in self._padded:
                return None
        copy: Buffer = ("padded", *key)
        if copy not in self._copies:
            self._copies.add(copy)
            factors = next(f for t, f in operator.inputs if t == image)
            reads, _ = self._operand(number, image, operator.cluster, factors)
            size = self._part(image, self._specs.of(operator.cluster, factors)) * more
            self._kernels.append(Kernel(number, set(reads), {copy: size}))
        return frozenset([copy])

    def _operand(
        self, number: int, tensor: int, cluster: int, factors: Factored
    ) -> tuple[frozenset[Buffer], frozenset[Buffer]]:
        """What is read for an operand in memory, and for one of elementwise work."""
        home, wanted = self._specs.home(tensor), self._specs.of(cluster, factors)
        at_home = self._sources.get((tensor, home), frozenset())
        if wanted == home:
            return at_home, self._again.get((tensor, home), at_home)
        sizes = self.problem.machine.sizes
        is_slice = not any(step.sent for step in steps(sizes, home, wanted))
        if is_slice and (tensor, home) not in at_home:
            return at_home, at_home  # a slice of what never exists in full
        copy: Buffer = (tensor, wanted)
        if copy not in self._copies:
            self._copies.add(copy)
            size = self._size(tensor, wanted)
            if self._narrowing is not None and not self._narrowing.everywhere(tensor):
                size /= (
                    2 if self.graph.tensors[tensor].float32 and self._narrowing.by(number) else 1
                )
            reads: set[Buffer] = set(at_home)
            if self._is_gathered_apart(number, home, wanted):
                gathered: Buffer = ("gathered", tensor, wanted)
                self._kernels.append(Kernel(number, reads, {gathered: size}))
                reads = {gathered}
            took = self._sending(tensor, home, wanted)
            sends = self._collective(home, wanted)
            self._kernels.append(Kernel(number, reads, {copy: size}, seconds=took, sends=sends))
        if self._habits.hides and self._is_reordered(number, tensor, home, wanted):
            gathered, copy = copy, ("reordered", tensor, wanted)
            if copy not in self._copies:
                self._copies.add(copy)
                self._kernels.append(Kernel(number, {gathered}, {copy: self._part(tensor, wanted)}))
        return frozenset([copy]), frozenset([copy])

    def _is_reordered(self, number: int, tensor: int, home: Spec, wanted: Spec) -> bool:
        """Whether what a GPU gathers is copied into another order for an operator.

        It gathers with the shards one after the other, so that the dimension of the shards comes
        first. Loops take arrays in the order of their dimensions, and a product takes its rows, its
        columns and what it adds up each in the order of theirs.
        """
        found = steps(self.problem.machine.sizes, home, wanted)
        if not found or found[-1].kind != "all-gather":
            return False
        gone = {a for a, b in zip(home, wanted, strict=True) if b == REPLICATED and a >= 0}
        operator = self.graph.operators[number]
        if operator.name in _ENTRIES:
            return max(gone) > 0
        if operator.name != "dot_general" or len(operator.inputs) < 2:
            return False
        return any(
            self._is_inner(operator, factors, dim)
            for own, factors in operator.inputs
            if own == tensor
            for dim in gone
        )

    def _is_inner(self, operator: Operator, factors: Factored, dim: int) -> bool:
        """Whether a dimension of an operand or the result of a product is not the first of its kind.

        There are dimensions of both operands, of one of them, and those that are added up.
        """
        roots = self.graph.factors.roots
        everywhere = [set(roots(f)) for _, f in (*operator.inputs[:2], operator.outputs[0])]
        own = roots(factors)
        kinds = [tuple(f in one for one in everywhere) for f in own]
        return any(
            kinds[other] == kinds[dim] and f is not None for other, f in enumerate(own[:dim])
        )

    def _sending(self, tensor: int, start: Spec, end: Spec) -> float:
        """Seconds of the collectives from one layout of a tensor to another, in one turn."""
        nbytes = self.graph.tensors[tensor].nbytes
        if self._habits.hides:
            found = [one for one in steps(self.problem.machine.sizes, start, end) if one.sent]
            starting = _STARTING * min(nbytes / _SMALLEST, 1.0)
            return sum(starting + step.sent * nbytes / _SENDING for step in found)
        return seconds(self.problem.machine, start, end, nbytes)

    def _collective(self, start: Spec, end: Spec) -> tuple[str, tuple[int, ...]] | None:
        """The last collective from one layout to another, if those run beside other kernels."""
        found = [step for step in steps(self.problem.machine.sizes, start, end) if step.sent]
        return (found[-1].kind, found[-1].axes) if found and self._habits.hides else None

    def _is_gathered_apart(self, number: int, home: Spec, wanted: Spec) -> bool:
        """Whether what the CPU gathers for a loop is copied once more.

        It gathers with the shards one after the other. Where they are not along the first
        dimension, that is another order than the one in which loops take arrays.
        """
        if not self._habits.turns:
            return False
        return self.graph.operators[number].name in _ENTRIES and self._is_along_inner(home, wanted)

    def _is_along_inner(self, home: Spec, wanted: Spec) -> bool:
        """Whether shards along another dimension than the first are gathered."""
        found = steps(self.problem.machine.sizes, home, wanted)
        gone = {a for a, b in zip(home, wanted, strict=True) if b == REPLICATED and a > 0}
        return bool(gone) and bool(found) and found[-1].kind == "all-gather"

    def _is_turned(self, operator: Operator, place: int) -> bool:
        """Whether the sum goes along another dimension of an operand than the CPU wants."""
        if not self._habits.turns or operator.name not in _PRODUCTS or len(operator.inputs) < 2:
            return False
        roots = self.graph.factors.roots
        factors = roots(operator.inputs[place][1])
        made = roots(operator.outputs[0][1])
        if operator.name == "dot_general":
            return place == 0 and bool(factors) and factors[-1] is not None and factors[-1] in made
        summed = {self.graph.factors.root(f) for f in operator.summed}
        right = len(factors) - 1 - place  # the last dimension of images, the one before of kernels
        return any(f in summed and d != right for d, f in enumerate(factors))

    def _turned(self, number: int, tensor: int, wanted: Spec) -> Buffer:
        copy: Buffer = ("turned", tensor, wanted)
        if copy not in self._copies:
            self._copies.add(copy)
            home = self._specs.home(tensor)
            at_home = self._sources.get((tensor, home), frozenset())
            reads = set(self._again.get((tensor, home), at_home))
            self._kernels.append(Kernel(number, reads, {copy: self._size(tensor, wanted)}))
        return copy

    def _results(self, number: int, operator: Operator, reads: set[Buffer]) -> None:
        graph = self.graph
        replaces = frozenset(reads) if operator.joins else frozenset[Buffer]()
        kernel = Kernel(number, set(reads), replaces=replaces)
        filled = filled_up(self.problem, self.choice, operator, self._habits.on_chip)
        if filled > OF_CHIP * self._habits.on_chip:
            kernel.passing = filled
        else:
            kernel.on_chip = filled
        if self._habits.zeros:
            self._begin_with_zeros(number, operator, kernel)
        for tensor, _ in operator.outputs:
            home = self._specs.home(tensor)
            if graph.tensors[tensor].free:
                continue
            if not self._kept(tensor, operator):
                self._sources[tensor, home] = frozenset(reads)
                continue
            self._sources[tensor, home] = frozenset([(tensor, home)])
            made = self._specs.made(tensor)
            if self._habits.hides and operator.summed and SUM not in made:
                made = self._specs.summands(tensor)  # added up inside of its cluster
            summands = tuple(REPLICATED if d == SUM else d for d in made)
            apart = self._habits.hides or summands != home
            if SUM in made and apart:  # of a reduce-scatter both are there
                summed: Buffer = (tensor, made)
                kernel.makes[summed] = self._size(tensor, summands)
                self._kernels.append(kernel)
                if self._habits.hides and self._is_scattered_inside(operator, summands, home):
                    whole, summed = summed, ("reordered", tensor, made)
                    copied = Kernel(number, {whole}, {summed: self._size(tensor, summands)})
                    self._kernels.append(copied)
                reduced = Kernel(
                    number,
                    {summed},
                    {(tensor, home): self._size(tensor, home)},
                    frozenset([summed] if summands == home else ()),
                    seconds=self._sending(tensor, made, home),
                    sends=self._collective(made, home),
                )
                self._kernels.append(reduced)
                kernel = Kernel(number, set(reads), replaces=replaces)
                continue
            kernel.makes[tensor, home] = self._size(tensor, home) * self._filled_by(operator)
        if kernel.makes:
            self._kernels.append(kernel)

    def _filled_by(self, operator: Operator) -> float:
        """How much larger the gradient of an image is that was filled up."""
        if not self._padding or operator.name != "conv_general_dilated":
            return 1.0
        maker = self.graph.tensors[operator.inputs[-1][0]].maker
        if maker < 0 or self.graph.operators[maker].name != "rev":
            return 1.0
        return self._padding.get(self.graph.operators[maker].inputs[0][0], 1.0)

    def _is_scattered_inside(self, operator: Operator, summands: Spec, home: Spec) -> bool:
        """Whether a GPU has to copy a sum into another order before it scatters it."""
        new = {b for a, b in zip(summands, home, strict=True) if a == REPLICATED and b >= 0}
        if operator.name in _OF_LOOPS:
            return max(new, default=0) > 0
        factors = operator.outputs[0][1]
        is_product = operator.name == "dot_general" and len(operator.inputs) > 1
        return is_product and any(self._is_inner(operator, factors, dim) for dim in new)

    def _begin_with_zeros(self, number: int, operator: Operator, kernel: Kernel) -> None:
        """What is written into piece by piece is there from the beginning.

        GPUs fill all that are alike at once.
        """
        both = self._habits.early or self._habits.hides
        scatters = both and operator.name.startswith("scatter")
        scatters = scatters and len(operator.inputs) < 3
        if not scatters and operator.name != "stack of scan":
            return
        tensor, factors = operator.outputs[0]
        zeros: Buffer = ("zeros", tensor)
        size = self._size(tensor, self._specs.of(operator.cluster, factors))
        shape = self.graph.tensors[tensor].shape
        alike = next((one for one in self._zeros if self._shape_of(one) == shape), None)
        if alike is not None and self._habits.hides:
            alike.makes[zeros] = size
        else:
            self._zeros.insert(0, Kernel(number, makes={zeros: size}))
        kernel.reads.add(zeros)
        kernel.replaces |= {zeros}

    def _shape_of(self, kernel: Kernel) -> tuple[int, ...]:
        return self.graph.tensors[self.graph.operators[kernel.place].outputs[0][0]].shape

    def _size(self, tensor: int, spec: Spec) -> float:
        if self._outputs.get(tensor):
            return 0.0
        nbytes = self.graph.tensors[tensor].nbytes
        if self._narrowing is not None and self._narrowing.everywhere(tensor):
            nbytes /= 2
        machine = self.problem.machine
        size = local(machine, nbytes, spec)
        if not self._habits.on_chip:
            return size
        shape = self.graph.tensors[tensor].shape
        if tensor in self._updates:
            return in_rows(size, shape, spec, machine.sizes)
        return in_tiles(size, shape, spec, machine.sizes, self._images.get(tensor, ()))

    def _kept(self, tensor: int, operator: Operator) -> bool:
        """Whether a tensor becomes a buffer."""
        if tensor in self._outputs or not _cheap(operator):
            return True
        if operator.name == BARRIER or operator.summed:
            return True
        if operator.name.startswith(_REDUCES):
            return True
        apart = self._habits.apart
        home = self._specs.home(tensor)
        users = self._users[tensor]
        if apart and operator.name in _DEAR and len(users) > 1:
            return True
        for number in users:
            user = self.graph.operators[number]
            if apart and not self._is_trivial(operator) and self._is_added_up(user):
                return True
            if user.name == "dot_general" and (self._habits.takes or operator.name == "transpose"):
                continue  # a product takes its operands in any order
            if user.name == "dot_general" and self._habits.takes_chains and self._is_chain(operator):
                continue
            if self._habits.hides and operator.name == "rev" and self._has_kernel(user):
                continue
            if self._habits.through and user.name == "gather" and user.inputs[0][0] == tensor:
                continue  # computed for what is looked up alone
            if not _cheap(user) or user.name == BARRIER:
                places = [i for i, (t, _) in enumerate(user.inputs) if t == tensor]
                if all(self._is_turned(user, place) for place in places):
                    continue
                return True
            factors = next(f for t, f in user.inputs if t == tensor)
            wanted = self._specs.of(user.cluster, factors)
            sizes = self.problem.machine.sizes
            if any(step.sent for step in steps(sizes, home, wanted)):
                return True
        return False

    def _is_chain(self, operator: Operator) -> bool:
        """Whether it computes each number from one of one array, and from what is free."""
        if not _elementwise(operator) or operator.name in _MOVED:
            return False
        own = {t for t, _ in operator.inputs if not self.graph.tensors[t].free}
        return len(own) == 1

    def _is_trivial(self, operator: Operator) -> bool:
        if operator.name == "convert_element_type" and operator.inputs:
            tensors = self.graph.tensors
            before, after = operator.inputs[0][0], operator.outputs[0][0]
            return tensors[after].nbytes <= 2 * tensors[before].nbytes  # of truth values it is not
        return operator.name in _TRIVIAL

    def _is_added_up(self, operator: Operator) -> bool:
        """Whether it reads its operands from memory to add them up, or their products."""
        if operator.name.startswith("reduce_"):
            maker = self.graph.tensors[operator.inputs[0][0]].maker
            return maker < 0 or self.graph.operators[maker].name not in _MULTIPLIED
        if operator.name not in _MULTIPLIED:
            return False
        users = self._users[operator.outputs[0][0]]
        return any(self.graph.operators[n].name == "reduce_sum" for n in users)


def _space(graph: Graph, tensor: int, factors: Factored) -> int:
    """How many places an image or a kernel has."""
    sizes = zip(graph.tensors[tensor].shape, factors, strict=True)
    return math.prod(size for size, factor in sizes if factor is None)


def _filling(graph: Graph, operator: Operator) -> float:
    """How much larger an image is that is filled up before a convolution; 1 where it is not.

    It is where a convolution in strides fills up by an odd number of places.
    """

    def places(tensor: int, factors: Factored) -> list[int]:
        sizes = zip(graph.tensors[tensor].shape, factors, strict=True)
        return [size for size, factor in sizes if factor is None]

    (image, kernel), made = operator.inputs[:2], operator.outputs[0]
    more = 1.0
    for size, own, result in zip(places(*image), places(*kernel), places(*made), strict=False):
        stride = round(size / result) if result else 0
        missing = (result - 1) * stride + own - size
        if stride > 1 and missing > 0 and missing % 2:
            more *= (size + missing) / size
    return more


def _elementwise(operator: Operator) -> bool:
    return _cheap(operator) and operator.name != BARRIER and not operator.name.startswith(_REDUCES)


def _cheap(operator: Operator) -> bool:
    return operator.joins or operator.name in ("reshape", "slice", "rev", "sharding_constraint")


class _Specs:
    """How tensors are made, how they are sharded, and how operators want them."""

    def __init__(self, problem: Problem, choice: Any) -> None:
        self._problem, self._choice = problem, choice
        self._made: dict[int, Spec] = {}
        self._home: dict[int, Spec] = {}
        for edge in problem.edges:
            if problem.nodes[edge.maker].name == "sum":
                continue
            start, ends = problem.edge_specs(edge, choice)
            self._made[edge.tensor] = start
            self._home[edge.tensor] = ends[0] if SUM in start else start

    def of(self, cluster: int, factors: Factored) -> Spec:
        node = self._problem.nodes[cluster]
        return self._problem.spec(node.strategies[self._choice[cluster]], factors)

    def home(self, tensor: int) -> Spec:
        if tensor not in self._home:
            graph = self._problem.graph
            maker = graph.tensors[tensor].maker
            if maker < 0:
                self._home[tensor] = (REPLICATED,) * len(self._problem.machine.sizes)
            else:
                operator = graph.operators[maker]
                factors = next(f for t, f in operator.outputs if t == tensor)
                self._home[tensor] = self.of(operator.cluster, factors)
        return self._home[tensor]

    def summands(self, tensor: int) -> Spec:
        """How a sum is made before devices add up what each of them has."""
        graph = self._problem.graph
        operator = graph.operators[graph.tensors[tensor].maker]
        factors = next(f for t, f in operator.outputs if t == tensor)
        node = self._problem.nodes[operator.cluster]
        summed = frozenset(map(graph.factors.root, operator.summed))
        return self._problem.spec(node.strategies[self._choice[operator.cluster]], factors, summed)

    def made(self, tensor: int) -> Spec:
        return self._made.get(tensor, self.home(tensor))
