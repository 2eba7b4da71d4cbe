"""The kernels of a plan's step: what a compiler makes of its operators, imitated in rough.

Which tensors become arrays in memory, what is computed from which of them, and what is copied on
the way. Compilers differ, so their habits are listed one by one (`habits.py`).

Glossary
    cheap       operators that a compiler computes again rather than keep what they give:
                elementwise work, moves, broadcasts
    turned      of an operand: copied into the order in which a library of the CPU adds up
"""

from __future__ import annotations

import collections

from paramesh.parallel.planning.memory.cheap import is_cheap, is_elementwise
from paramesh.parallel.planning.memory.gpu.images import filling, has_kernel, places_of
from paramesh.parallel.planning.memory.gpu.kernels import collective_of, of_gpus
from paramesh.parallel.planning.memory.gpu.orders import (
    ENTRIES,
    OF_LOOPS,
    is_along_inner,
    is_reordered,
    is_scattered_inside,
)
from paramesh.parallel.planning.memory.gpu.times import sending
from paramesh.parallel.planning.memory.habits import HABITS, Habits
from paramesh.parallel.planning.memory.kernel import Buffer, Kernel
from paramesh.parallel.planning.memory.random_words import beside_words, is_random, words_of
from paramesh.parallel.planning.memory.shards import Shards
from paramesh.parallel.planning.memory.tpu.tiles import (
    OF_CHIP,
    filled_up,
    in_rows,
    in_tiles,
    lanes_filled,
    looked_up,
    of_images,
)
from paramesh.parallel.search.graph import BARRIER, Factored, Operator, Path
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import REPLICATED, SUM, Spec, local, sent, steps
from paramesh.parallel.search.rings import in_rings

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


def kernels_of(plan: Plan) -> list[Kernel]:
    """The kernels of a step, in the order of the program."""
    return _Kernels(plan).run()


class _Kernels:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.problem = plan, plan.problem
        self.graph, self.choice = plan.problem.graph, plan.solution.choice
        self._shards = Shards(self.problem, self.choice)
        self._habits = HABITS.get(plan.machine.target.name, Habits())
        self._narrowing = plan.problem.narrowing
        self._sizes = plan.machine.sizes
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
        self._rings = in_rings(self.problem, self.choice)
        self._loops = {op.path[:-2] for op in self.graph.operators if op.name in OF_LOOPS}
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
                around = loops[:-1] if self._is_before_loop(kernel, operator) else loops
                kernel.loop, kernel.depth = around[0] if around else None, len(around)
            if not self._habits.hides:
                self._take_time(self._kernels[before:], operator)
        self._kernels[:0] = self._zeros
        if self._habits.hides:
            return of_gpus(self.plan, self._shards, self._outputs, self._kernels)
        return self._kernels

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

    def _is_before_loop(self, kernel: Kernel, operator: Operator) -> bool:
        """Whether it lays out anew what enters a loop, before that begins."""
        if operator.name not in ENTRIES:
            return False
        given = operator.inputs[0][0]
        return any(given in buffer[:2] for buffer in kernel.makes)

    def _loops_around(self, operator: Operator) -> list[Path]:
        path = operator.path
        starts = (path[:end] for end in range(1, len(path)))
        return [start for start in starts if start in self._loops]

    def _operator(self, number: int, operator: Operator) -> None:
        reads: set[Buffer] = set()
        again: set[Buffer] = set()
        for place, (tensor, factors) in enumerate(operator.inputs):
            if self._is_turned(operator, place):
                reads.add(self._turned(number, tensor, self._shards.of(operator.cluster, factors)))
                continue
            if self._habits.hides and place == 1 and has_kernel(self.graph, operator):
                reads |= self._kernel_of(number, tensor, operator.cluster, factors)
                continue
            if (padded := self._padded_image(number, operator, tensor)) is not None:
                reads |= padded
                continue
            own, sources = self._operand(number, tensor, operator.cluster, factors)
            if not place:
                own |= self._looked_up(number, operator)
            reads |= own
            again |= sources
        elementwise = self._habits.through and self._is_cheap(operator) and is_elementwise(operator)
        if elementwise and self._habits.rolls:
            again |= self._beside_words(number, operator, again)
        if elementwise and operator.name not in _DEAR:
            for tensor, _ in operator.outputs:
                self._again[tensor, self._shards.home(tensor)] = frozenset(again)
        if elementwise and not self._is_added_up(operator):
            reads = again
        self._results(number, operator, reads)

    def _beside_words(
        self, number: int, operator: Operator, reads: set[Buffer]
    ) -> frozenset[Buffer]:
        """What is kept besides of an operator that is computed again from it."""
        tensor = operator.outputs[0][0]
        size = beside_words(self.problem, operator, tensor, self._shards.home(tensor))
        kept: Buffer = ("beside", tensor)
        if not size:
            return frozenset()
        self._kernels.append(Kernel(number, set(reads), {kept: size}))
        return frozenset([kept])

    def _looked_up(self, number: int, operator: Operator) -> frozenset[Buffer]:
        """The copy of a table whose rows are looked up; all are made at the beginning."""
        size = looked_up(self.problem, self.choice, operator, self._habits.on_chip)
        copy: Buffer = ("rows", operator.inputs[0][0])
        if not size:
            return frozenset()
        if copy not in self._copies:
            self._copies.add(copy)
            self._zeros.append(Kernel(number, makes={copy: size}))
        return frozenset([copy])

    def _kernel_of(
        self, number: int, tensor: int, cluster: int, factors: Factored
    ) -> frozenset[Buffer]:
        """The copy of a kernel for the library of GPUs, which wants its inputs as last dimension.

        One is for the convolution and for the gradient of its image, by the reversed kernel.
        """
        maker = self.graph.tensors[tensor].maker
        if maker >= 0 and self.graph.operators[maker].name == "rev":
            tensor = self.graph.operators[maker].inputs[0][0]
        wanted = self._shards.of(cluster, factors)
        copy: Buffer = ("kernel", tensor, wanted)
        if copy not in self._copies:
            self._copies.add(copy)
            reads, _ = self._operand(number, tensor, cluster, factors)
            self._kernels.append(
                Kernel(number, set(reads), {copy: self._shards.part(tensor, wanted)})
            )
        return frozenset([copy])

    def _padded_image(
        self, number: int, operator: Operator, image: int
    ) -> frozenset[Buffer] | None:
        """The copy of an image that is filled up before the library of GPUs takes it.

        The library fills up both sides alike. One copy is for the convolution and for the gradient
        of its kernel. None where none is needed.
        """
        if not self._habits.hides or operator.name != "conv_general_dilated":
            return None
        graph, made = self.graph, operator.outputs[0]
        if image == operator.inputs[0][0] and has_kernel(self.graph, operator):
            more = filling(graph, operator)
            key = image, places_of(graph, *operator.inputs[1])
            if more == 1.0:
                return None
            self._padding[operator.inputs[1][0]] = more
            self._padded.add(key)
        else:
            key, more = (image, places_of(graph, *made)), 1.0
            if key not in self._padded:
                return None
        copy: Buffer = ("padded", *key)
        if copy not in self._copies:
            self._copies.add(copy)
            factors = next(f for t, f in operator.inputs if t == image)
            reads, _ = self._operand(number, image, operator.cluster, factors)
            size = self._shards.part(image, self._shards.of(operator.cluster, factors)) * more
            self._kernels.append(Kernel(number, set(reads), {copy: size}))
        return frozenset([copy])

    def _operand(
        self, number: int, tensor: int, cluster: int, factors: Factored
    ) -> tuple[frozenset[Buffer], frozenset[Buffer]]:
        """What is read for an operand in memory, and for one of elementwise work."""
        home, wanted = self._shards.home(tensor), self._shards.of(cluster, factors)
        at_home = self._sources.get((tensor, home), frozenset())
        if wanted == home:
            return at_home, self._again.get((tensor, home), at_home)
        sizes = self._sizes
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
            sends = self._beside_others(home, wanted)
            self._kernels.append(Kernel(number, reads, {copy: size}, seconds=took, sends=sends))
        if self._habits.hides and is_reordered(
            self.graph, self._sizes, (self.graph.operators[number], tensor), (home, wanted)
        ):
            gathered, copy = copy, ("reordered", tensor, wanted)
            if copy not in self._copies:
                self._copies.add(copy)
                self._kernels.append(
                    Kernel(number, {gathered}, {copy: self._shards.part(tensor, wanted)})
                )
        return frozenset([copy]), frozenset([copy])

    def _sending(self, tensor: int, start: Spec, end: Spec) -> float:
        """Seconds of the collectives from one layout of a tensor to another, in one turn."""
        nbytes = self.graph.tensors[tensor].nbytes
        if self._habits.hides:
            return sending(self._sizes, start, end, nbytes)
        sends = sent(self.problem.machine, start, end, nbytes)
        # TPUs gather what they need not compute before beside what they compute.
        beside = self._habits.on_chip > 0 and self.graph.tensors[tensor].maker < 0
        return sum(one.seconds for one in sends if not (beside and one.kind == "all-gather"))

    def _beside_others(self, start: Spec, end: Spec) -> tuple[str, tuple[int, ...]] | None:
        """The last collective from one layout to another, if those run beside other kernels."""
        return collective_of(self._sizes, start, end) if self._habits.hides else None

    def _is_gathered_apart(self, number: int, home: Spec, wanted: Spec) -> bool:
        """Whether what the CPU gathers for a loop is copied once more.

        It gathers with the shards one after the other. Where they are not along the first
        dimension, that is another order than the one in which loops take arrays.
        """
        if not self._habits.turns:
            return False
        return self.graph.operators[number].name in ENTRIES and is_along_inner(
            self._sizes, home, wanted
        )

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
            home = self._shards.home(tensor)
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
            home = self._shards.home(tensor)
            if graph.tensors[tensor].free:
                continue
            if not self._kept(tensor, operator):
                self._sources[tensor, home] = frozenset(reads)
                continue
            self._sources[tensor, home] = frozenset([(tensor, home)])
            made = self._shards.made(tensor)
            if self._habits.hides and operator.summed and SUM not in made:
                made = self._shards.summands(tensor)  # added up inside of its cluster
            summands = tuple(REPLICATED if d == SUM else d for d in made)
            apart = self._habits.hides or summands != home
            if tensor in self._rings:
                self._add_ring(number, tensor, reads)
                continue
            if SUM in made and apart:  # of a reduce-scatter both are there
                summed: Buffer = (tensor, made)
                kernel.makes[summed] = self._size(tensor, summands)
                self._kernels.append(kernel)
                if self._habits.hides and is_scattered_inside(graph, operator, summands, home):
                    whole, summed = summed, ("reordered", tensor, made)
                    copied = Kernel(number, {whole}, {summed: self._size(tensor, summands)})
                    self._kernels.append(copied)
                reduced = Kernel(
                    number,
                    {summed},
                    {(tensor, home): self._size(tensor, home)},
                    frozenset([summed] if summands == home else ()),
                    seconds=self._sending(tensor, made, home),
                    sends=self._beside_others(made, home),
                )
                self._kernels.append(reduced)
                kernel = Kernel(number, set(reads), replaces=replaces)
                continue
            if self._habits.rolls and is_random(operator):
                kernel.passing = words_of(self.problem, operator, tensor, home)
                kernel.makes[tensor, home] = kernel.passing
                continue
            kernel.makes[tensor, home] = self._size(tensor, home) * self._filled_by(operator)
        if kernel.makes:
            self._kernels.append(kernel)

    def _add_ring(self, number: int, tensor: int, reads: set[Buffer]) -> None:
        """A product that is computed part by part: what it passes on goes both ways."""
        home = self._shards.home(tensor)
        part = self._shards.part(tensor, home)
        self._kernels.append(
            Kernel(
                number,
                set(reads),
                {(tensor, home): self._size(tensor, home)},
                passing=2 * part - self._size(tensor, home),
                seconds=self._sending(tensor, self._shards.made(tensor), home),
                is_ring=True,
            )
        )

    def _filled_by(self, operator: Operator) -> float:
        """How much larger the gradient of an image is that was filled up."""
        if not self._padding or operator.name != "conv_general_dilated":
            return 1.0
        maker = self.graph.tensors[operator.inputs[-1][0]].maker
        if maker < 0 or self.graph.operators[maker].name != "rev":
            return 1.0
        return self._padding.get(self.graph.operators[maker].inputs[0][0], 1.0)

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
        size = self._size(tensor, self._shards.of(operator.cluster, factors))
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
        if self._narrowing is not None and (
            self._narrowing.everywhere(tensor) or self._ends_narrow(tensor)
        ):
            nbytes /= 2
        machine = self.problem.machine
        size = local(machine, nbytes, spec)
        if not self._habits.on_chip:
            return size
        shape = self.graph.tensors[tensor].shape
        if tensor in self._updates:
            return in_rows(size, shape, spec, machine.sizes)
        return in_tiles(size, shape, spec, machine.sizes, self._images.get(tensor, ()))

    def _ends_narrow(self, tensor: int) -> bool:
        """Whether elementwise work goes on with a product before it is written, and is rounded."""
        own = self.graph.tensors[tensor]
        if self._narrowing is None or not own.float32 or own.maker < 0:
            return False
        if self.graph.operators[own.maker].name != "dot_general" or tensor in self._outputs:
            return False
        made = [
            (operator, t)
            for operator in map(self.graph.operators.__getitem__, self._users[tensor])
            for t, _ in operator.outputs
        ]
        return bool(made) and all(
            is_elementwise(operator) and self._narrowing.everywhere(t) for operator, t in made
        )

    def _kept(self, tensor: int, operator: Operator) -> bool:
        """Whether a tensor becomes a buffer."""
        if tensor in self._outputs or not self._is_cheap(operator):
            return True
        if operator.name == BARRIER or operator.summed:
            return True
        if operator.name.startswith(_REDUCES):
            return True
        apart = self._habits.apart
        home = self._shards.home(tensor)
        users = self._users[tensor]
        if apart and operator.name in _DEAR and len(users) > 1:
            return True
        for number in users:
            user = self.graph.operators[number]
            if any(made in self._rings for made, _ in user.outputs):
                return True  # what a ring goes over is in memory
            if apart and not self._is_trivial(operator) and self._is_added_up(user):
                return True
            if user.name == "dot_general" and (self._habits.takes or operator.name == "transpose"):
                continue  # a product takes its operands in any order
            if (
                user.name == "dot_general"
                and self._habits.takes_chains
                and self._is_chain(operator)
            ):
                continue
            if self._habits.hides and operator.name == "rev" and has_kernel(self.graph, user):
                continue
            if self._habits.through and user.name == "gather" and user.inputs[0][0] == tensor:
                continue  # computed for what is looked up alone
            if not self._is_cheap(user) or user.name == BARRIER:
                places = [i for i, (t, _) in enumerate(user.inputs) if t == tensor]
                if all(self._is_turned(user, place) for place in places):
                    continue
                return True
            factors = next(f for t, f in user.inputs if t == tensor)
            wanted = self._shards.of(user.cluster, factors)
            sizes = self._sizes
            if any(step.sent for step in steps(sizes, home, wanted)):
                return True
        return False

    def _is_cheap(self, operator: Operator) -> bool:
        return is_cheap(operator) and not (self._habits.rolls and is_random(operator))

    def _is_chain(self, operator: Operator) -> bool:
        """Whether it computes each number from one of one array, and from what is free."""
        if not is_elementwise(operator) or operator.name in _MOVED:
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
