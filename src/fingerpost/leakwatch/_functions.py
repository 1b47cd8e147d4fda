"""Custom autograd Functions that keep their own output on ctx."""

from __future__ import annotations

import dis
import functools
import gc
import inspect
import linecache
from collections.abc import Iterator
from typing import Any

import torch

from fingerpost.leakwatch._graph import (
    LEAF,
    bytes_behind,
    describe,
    reachable,
    root,
    search,
    short_name,
    tensors_in,
)
from fingerpost.leakwatch._report import Leak

_BACKWARDS = torch.autograd.function.BackwardCFunction


class FunctionWatch:
    """Looks for ``ctx.y = output`` in graphs and in memory.

    A ctx is itself the node of the graph, so that ``ctx.y = output`` makes a ring: y → node → y. A Function that keeps
    one output is freed when Python's collector runs, a layer of a deep network at each pass; one that keeps two
    outputs, or an output that is changed later, is never freed. ``save_for_backward`` knows outputs and makes no ring.

    Only classes whose ``forward`` or ``setup_context`` sets an attribute are looked for, so that programs without such
    classes pay nothing.
    """

    def __init__(self) -> None:
        self._direct: tuple[int, ...] = ()
        self._suspects: dict[type, dict[str, tuple[str, int]]] = {}
        self._leaks: dict[tuple[type, str], Leak] = {}
        self._counted: set[tuple[int, str]] = set()
        self._since = -1

    def start(self) -> None:
        """From here on: nodes that exist already are not this watch's."""
        with torch.enable_grad():
            node = torch.ones(1, requires_grad=True).view(1).grad_fn
        self._since = -1 if node is None else node._sequence_nr()

    def any_suspects(self) -> bool:
        """Whether there is a class to look for."""
        self._refresh()
        return bool(self._suspects)

    def scan_graph(self, outputs: Any) -> Iterator[Leak]:
        """Rings in the graph of what a backward pass starts from."""
        for _, tensor in tensors_in("", outputs):
            if tensor.grad_fn is not None:
                for node in reachable(tensor.grad_fn):
                    if type(node) in self._suspects:
                        yield from self._rings(node)

    def scan_memory(self) -> Iterator[Leak]:
        """Rings of all nodes of such classes that are alive."""
        self._refresh()
        if self._suspects:
            suspects = self._suspects
            for node in [item for item in gc.get_objects() if type(item) in suspects]:
                yield from self._rings(node)

    def _refresh(self) -> None:
        direct = tuple(map(id, torch.autograd.Function.__subclasses__()))
        if direct != self._direct:
            self._direct, self._suspects = direct, _suspects(direct)

    def _rings(self, node: Any) -> Iterator[Leak]:
        number = node._sequence_nr()
        if not self._since < number < LEAF:
            return
        for name, value in list(vars(node).items()):
            for slot, tensor in tensors_in(name, value):
                owner = root(tensor)
                if owner.grad_fn is None or (number, slot) in self._counted:
                    continue
                ring = search(owner, owner.grad_fn, number - 1)
                if ring is not None and ring.nodes[-1] is node:
                    self._counted.add((number, slot))
                    yield self._leak(node, slot, owner, [short_name(step) for step in ring.nodes])

    def _leak(self, node: Any, slot: str, owner: torch.Tensor, steps: list[str]) -> Leak:
        key = (type(node), slot)
        if key not in self._leaks:
            file, line = self._suspects[type(node)].get(slot) or next(
                iter(self._suspects[type(node)].values())
            )
            kind = type(node)._forward_cls  # type: ignore[attr-defined]
            self._leaks[key] = Leak(
                file, line, f"{kind.__name__}.forward", linecache.getline(file, line).strip(), f"ctx.{slot}",
                describe(owner),
                (f"ctx.{slot}", *steps, f"ctx.{slot}"), bytes_behind(owner.grad_fn, owner),
                "ctx.save_for_backward(…) for outputs: it keeps a copy without history", "ctx",
            )  # fmt: skip
        return self._leaks[key]


@functools.lru_cache(maxsize=1)
def _suspects(direct: tuple[int, ...]) -> dict[type, dict[str, tuple[str, int]]]:
    """The nodes' classes of Functions that set attributes; anew when there are other Functions than before."""
    return {
        kind._backward_cls: stores  # type: ignore[attr-defined]
        for kind in _subclasses(torch.autograd.Function)
        if not kind.__module__.startswith("torch.") and (stores := _stores(kind))
    }


def _subclasses(kind: type) -> Iterator[type]:
    for child in type.__subclasses__(kind):
        yield child
        yield from _subclasses(child)


def _stores(kind: type) -> dict[str, tuple[str, int]]:
    """The attributes that a Function sets in its forward pass, with the file and line of each."""
    found: dict[str, tuple[str, int]] = {}
    for method in (getattr(kind, "forward", None), getattr(kind, "setup_context", None)):
        function = inspect.unwrap(method) if callable(method) else None
        code: Any = getattr(function, "__code__", None)
        if code is None:
            continue
        line = 0
        for step in dis.get_instructions(code):
            positions: Any = getattr(step, "positions", None)  # since Python 3.11
            line = positions.lineno if positions else step.starts_line or line
            if step.opname == "STORE_ATTR":
                found.setdefault(step.argval, (code.co_filename, line or code.co_firstlineno))
    return found
