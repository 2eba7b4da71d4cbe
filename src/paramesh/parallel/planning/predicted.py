"""What a step will hold on each device, before anything is compiled.

Arguments are known to the byte: each state and each input has a layout. For the rest the work of a
compiler is imitated in rough: which tensors become arrays in memory, in which order they are made,
and which of them take the place of others.

Glossary
    buffer      an array in memory: a tensor in one layout, on one device
    kernel      operators that run as one: one that computes much, or a chain of cheap ones whose
                tensors in between are never in memory
    cheap       operators that a compiler computes again rather than keep what they give:
                elementwise work, moves, broadcasts
    tile        what TPUs have arrays in: 8 rows of 128 numbers, filled up where there are fewer
"""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass, field
from typing import Any

from paramesh.parallel.search.graph import BARRIER, Factored, Operator
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, Spec, local, steps

Buffer = tuple[int, Spec]

#: Bytes of the memory on the chip, where a compiler keeps what it can of what passes: the VMEM of
#: TPUs ("How to Scale Your Model", jax-ml.github.io/scaling-book: 128 MiB on v5e).
ON_CHIP = {"v5e": 128 << 20, "v5p": 128 << 20, "v6e": 128 << 20}
#: Rows and numbers of a tile.
_TILE = (8, 128)
#: The part of the memory on the chip that one buffer may have. With libtpu 0.0.42, 112 MiB of 128
#: lie between a buffer that is there (64 MiB) and one that is not (122 MiB).
_OF_CHIP = 7 / 8
#: Cheap ones that are still too dear for the CPU to be computed twice.
_DEAR = ("exp", "exp2", "log", "log1p", "tanh", "logistic", "erf", "div", "rsqrt", "sqrt", "pow")
#: Those that cost nothing at all.
_TRIVIAL = ("broadcast_in_dim", "reshape", "iota", "convert_element_type")

#: Cheap ones that make a tensor smaller: what they give is kept.
_REDUCES = ("reduce_", "argmax", "argmin")


def arguments(plan: Plan) -> float:
    """Bytes that a device holds of the inputs of the program that are used."""
    problem = plan.problem
    graph = problem.graph
    return sum(
        local(problem.machine, graph.tensors[tensor].nbytes, plan.input_spec(number))
        for number, tensor in enumerate(graph.inputs)
        if number in problem.source
    )


def passing(plan: Plan) -> float:
    """Bytes that are live besides the arguments, at the peak."""
    return _most(_Kernels(plan).made(), ON_CHIP.get(plan.machine.target.name, 0))


@dataclass
class _Kernel:
    """See the glossary.

    Attributes:
        place: in the program.
        reads: buffers, without arguments of the program.
        makes: buffer -> bytes; 0 for one that takes the place of an argument.
        in_place: whether a result may take the place of an operand that nobody needs any more.
        passing: bytes that it needs while it runs.
    """

    place: int
    reads: set[Buffer] = field(default_factory=set)
    makes: dict[Buffer, float] = field(default_factory=dict)
    in_place: bool = False
    passing: float = 0.0


class _Kernels:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.problem = plan, plan.problem
        self.graph, self.choice = plan.problem.graph, plan.solution.choice
        self._specs = _Specs(self.problem, self.choice)
        #: Whether reductions read what they add up from memory, as XLA's CPU compiler has it.
        self._apart = plan.machine.target.name == "cpu"
        #: Whether products take cheap operands as they are computed, as on TPUs.
        self._taken = plan.machine.target.name in ON_CHIP
        self._outputs: dict[int, bool] = {}
        for number, tensor in enumerate(self.graph.outputs):
            if tensor is not None:
                self._outputs[tensor] = number in plan.program.tied
        self._users: dict[int, list[int]] = collections.defaultdict(list)
        for number, operator in enumerate(self.graph.operators):
            for tensor, _ in operator.inputs:
                self._users[tensor].append(number)

    def made(self) -> list[_Kernel]:
        graph, sizes = self.graph, self.problem.machine.sizes
        sources: dict[Buffer, frozenset[Buffer]] = {}
        kernels: list[_Kernel] = []
        copies: set[Buffer] = set()
        for number, operator in enumerate(graph.operators):
            reads: set[Buffer] = set()
            for tensor, factors in operator.inputs:
                home = self._specs.home(tensor)
                wanted = self._specs.of(operator.cluster, factors)
                at_home = sources.get((tensor, home), frozenset())
                if wanted == home:
                    reads |= at_home
                    continue
                copy = (tensor, wanted)
                is_slice = not any(step.sent for step in steps(sizes, home, wanted))
                if is_slice and (tensor, home) not in at_home:
                    # A slice of what never exists in full.
                    reads |= at_home
                    continue
                if copy not in copies:
                    copies.add(copy)
                    size = self._size(tensor, wanted)
                    kernels.append(_Kernel(number, set(at_home), {copy: size}))
                reads.add(copy)
            kernel = _Kernel(number, reads, in_place=operator.joins)
            kernel.passing = self._turned(operator) + self._filled_up(operator)
            for tensor, _ in operator.outputs:
                home = self._specs.home(tensor)
                if graph.tensors[tensor].free:
                    continue
                if not self._kept(tensor, operator):
                    sources[tensor, home] = frozenset(reads)
                    continue
                made = self._specs.made(tensor)
                if SUM in made and made != home:
                    summands = tuple(REPLICATED if d == SUM else d for d in made)
                    if summands != home:  # a reduce-scatter: both are there
                        summed = (tensor, made)
                        kernel.makes[summed] = self._size(tensor, summands)
                        reduced = _Kernel(
                            number, {summed}, {(tensor, home): self._size(tensor, home)}
                        )
                        sources[tensor, home] = frozenset([(tensor, home)])
                        kernels += [kernel, reduced]
                        kernel = _Kernel(number, set(reads), in_place=operator.joins)
                        continue
                kernel.makes[tensor, home] = self._size(tensor, home)
                sources[tensor, home] = frozenset([(tensor, home)])
            if kernel.makes:
                kernels.append(kernel)
        return kernels

    def _turned(self, operator: Operator) -> float:
        """Bytes of an operand that the CPU turns round before it computes a product."""
        if not self._apart or operator.name != "dot_general" or len(operator.inputs) < 2:
            return 0.0
        tensor, factors = operator.inputs[0]
        if not factors or factors[-1] is None or factors[-1] not in operator.outputs[0][1]:
            return 0.0
        return self._size(tensor, self._specs.of(operator.cluster, factors))

    def _size(self, tensor: int, spec: Spec) -> float:
        if self._outputs.get(tensor):
            return 0.0
        return local(self.problem.machine, self.graph.tensors[tensor].nbytes, spec)

    def _filled_up(self, operator: Operator) -> float:
        """Bytes in which TPUs add up the updates of a table, if they are not on the chip.

        The sum lies row by row if that is small enough for the chip, or else column by column,
        which fills up nothing; where neither is, row by row (libtpu 0.0.42). Then it is brought
        into the layout of the table.
        """
        if not self._taken or operator.name not in ("scatter-add", "scatter_add"):
            return 0.0
        tensor, factors = operator.outputs[0]
        spec = self._specs.of(operator.cluster, factors)
        own, most = self.graph.tensors[tensor], ON_CHIP[self.plan.machine.target.name]
        if len(own.shape) < 2:
            return 0.0
        size = local(self.problem.machine, own.nbytes, spec)
        filled = size * self._filled(own.shape, spec)
        lies = size if size <= most < filled else filled
        return lies if filled > size and lies > _OF_CHIP * most else 0.0

    def _filled(self, shape: tuple[int, ...], spec: Spec) -> float:
        """How much larger an array is in tiles."""
        more = 1.0
        for dim, tile in zip((len(shape) - 2, len(shape) - 1), _TILE, strict=True):
            parts = math.prod(
                n for d, n in zip(spec, self.problem.machine.sizes, strict=True) if d == dim
            )
            own = max(shape[dim] // parts, 1)
            if own == 1 and dim == len(shape) - 1:
                return 1.0  # a column is kept as a vector
            more *= math.ceil(own / tile) * tile / own
        return more

    def _kept(self, tensor: int, operator: Operator) -> bool:
        """Whether a tensor becomes a buffer."""
        if tensor in self._outputs or not _cheap(operator):
            return True
        if operator.name == BARRIER or operator.summed:
            return True
        if operator.name.startswith(_REDUCES):
            return True
        home = self._specs.home(tensor)
        users = self._users[tensor]
        if self._apart and operator.name in _DEAR and len(users) > 1:
            return True
        for number in users:
            user = self.graph.operators[number]
            if self._apart and user.name.startswith("reduce_") and operator.name not in _TRIVIAL:
                return True
            if user.name == "dot_general" and (self._taken or operator.name == "transpose"):
                continue  # a product takes its operands in any order
            if not _cheap(user) or user.name == BARRIER:
                return True
            factors = next(f for t, f in user.inputs if t == tensor)
            wanted = self._specs.of(user.cluster, factors)
            sizes = self.problem.machine.sizes
            if any(step.sent for step in steps(sizes, home, wanted)):
                return True
        return False


def _cheap(operator: Operator) -> bool:
    return operator.joins or operator.name in ("reshape", "slice", "sharding_constraint")


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

    def made(self, tensor: int) -> Spec:
        return self._made.get(tensor, self.home(tensor))


def _most(kernels: list[_Kernel], on_chip: float) -> float:
    """Bytes that are live at the peak, with the kernels in the order of the program.

    Args:
        kernels: in that order.
        on_chip: bytes of a memory that holds what it can, but for what kernels need as they run.
    """
    last: dict[Buffer, int] = {}
    for at, kernel in enumerate(kernels):
        for buffer in kernel.reads:
            last[buffer] = at
    live: dict[Buffer, float] = {}
    now = most = 0.0
    for at, kernel in enumerate(kernels):
        dying = [b for b in kernel.reads if last[b] == at and b in live]
        free = sorted((live[b] for b in dying), reverse=True) if kernel.in_place else []
        for buffer, size in kernel.makes.items():
            now += size
            live[buffer] = size
            if size and size in free:  # takes the place of an operand
                free.remove(size)
                now -= size
                taken = next(b for b in dying if b in live and live[b] == size and b != buffer)
                live[taken] = 0.0
        most = max(most, max(now - on_chip, 0.0) + kernel.passing)
        for buffer in (*dying, *(b for b in kernel.makes if b not in last)):
            if buffer in live:
                now -= live.pop(buffer)
    return most
