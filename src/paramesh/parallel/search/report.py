"""What a plan comes to, for people: what is sent and why, and what other layouts would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from paramesh.parallel.search.plan import Plan, everywhere, restricted, sharded_over_all
from paramesh.parallel.search.resharding import Spec
from paramesh.plain_text import printable, rendered

_WIDTH = 100
_MOST_ROWS = 20


class Compared(NamedTuple):
    """A way to lay a program out, and the seconds of a step in the cost model."""

    name: str
    seconds: float


class Explanation:
    """A plan, explained; `print` shows what is sent in a step.

    Args:
        plan: the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def compared(self) -> list[Compared]:
        """The plan beside layouts that are known by name, in the same cost model.

        Each fixes where Parameters and states of the optimizer lie, over all devices, and has the
        rest searched: no hand-made program with these layouts costs less in the model.
        """
        plan = self.plan
        trained = plan.program.trained()
        weights = {n for n in trained if _is_weight(plan, n)}

        def layouts(cut: Callable[[int], bool]) -> dict[int, Spec]:
            return {
                n: sharded_over_all(plan, n) if cut(n) else everywhere(plan)
                for n in trained
                if n in plan.problem.source
            }

        ways = (
            ("data parallel", lambda n: False),
            ("ZeRO-1 (states of the optimizer are sharded)", lambda n: n not in weights),
            ("ZeRO-3 (Parameters and states are sharded)", lambda n: True),
        )
        found = [Compared("the plan", plan.seconds)]
        found += [Compared(name, restricted(plan, layouts(cut))) for name, cut in ways]
        return found

    def __rich__(self) -> Any:
        """The collectives of a step, for rich."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        plan = self.plan
        collectives = plan.collectives()
        sizes = ", ".join(
            f"{name}={size}" for name, size in zip(plan.axes, plan.matrix, strict=True)
        )
        sent = sum(one.nbytes for one in collectives)
        title = (
            f"A step on {plan.machine.count} devices ({sizes}), as modelled for "
            f"'{plan.machine.target.name}': {_time(plan.seconds)}, {_size(sent)} sent by each "
            f"device, {_size(plan.memory())} held"
        )
        table = Table(
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for name in ("collective", "of", "from", "for"):
            table.add_column(name, overflow="fold")
        for name in ("times", "sent", "share"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in collectives[:_MOST_ROWS]:
            cells = (one.kind, one.tensor, one.maker, one.users, str(one.times))
            share = f"{one.seconds / plan.seconds:.1%}" if plan.seconds else "-"
            table.add_row(*map(Text, (*cells, _size(one.nbytes), share)))
        return table

    def __str__(self) -> str:
        lines = rendered(self.__rich__(), _WIDTH).splitlines()
        more = len(self.plan.collectives()) - _MOST_ROWS
        if more > 0:
            lines.append(f"… and {more} more collectives, which send less.")
        kept = self.plan.kept_whole()
        if kept:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(kept.items()))
            lines.append(f"Kept replicated, as there is no rule: {names}.")
        return printable("\n".join(lines) + "\n")

    def explain(self) -> str:
        """The plan beside data parallel, ZeRO-1 and ZeRO-3 in the same cost model, as a text."""
        rows = self.compared()
        width = max(len(row.name) for row in rows)
        best = rows[0].seconds or 1.0
        return "".join(
            f"{row.name:<{width}}  {_time(row.seconds):>10}  {row.seconds / best:.2f}\n"
            for row in rows
        )


def _is_weight(plan: Plan, number: int) -> bool:
    """Whether an input is used for more than its own update."""
    node, _ = plan.problem.source.get(number, (-1, ()))
    return node >= 0 and not plan.problem.nodes[node].operators


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError("the last unit is taken")


def _size(nbytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            return f"{nbytes:.1f} {unit}" if unit != "B" else f"{nbytes:.0f} B"
        nbytes /= 1024
    raise AssertionError("the last unit is taken")
