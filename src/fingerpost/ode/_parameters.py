"""Which tensors a vector field depends on besides its arguments: none may lose its gradient silently."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.ode._field import Field

_REMEDY = "pass it in params=(...), or use gradient='tape', which needs no list"


def declared(f: Callable[..., Any], params: Sequence[Tensor] | None) -> list[Tensor]:
    """The tensors known before any evaluation: `params`, and the parameters of modules that f holds.

    Modules are found where f is one, in its `__self__`, in a `functools.partial`, and in its closure.
    """
    for p in params or ():
        if not isinstance(p, Tensor):
            raise InvalidTypeError(f"params must be tensors, got {type(p).__name__}")
    found = [p for p in params or () if p.requires_grad]
    found += [p for part in _parts(f) for p in _leaves(part)]
    return list({id(p): p for p in found}.values())


def _parts(f: Any) -> Iterator[Any]:
    """F and what it visibly holds."""
    yield f
    if isinstance(f, functools.partial):
        for part in (f.func, *f.args, *f.keywords.values()):
            yield from _parts(part)
    yield getattr(f, "__self__", None)
    for cell in getattr(f, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
        if content is not f:
            yield from (content,) if isinstance(content, torch.nn.Module) else _functions(content)


def _functions(content: Any) -> Iterator[Any]:
    if callable(content) and hasattr(content, "__closure__") and content.__closure__:
        yield from (
            c.cell_contents for c in content.__closure__ if isinstance(c.cell_contents, torch.nn.Module)
        )
    yield content


def _leaves(part: Any) -> Iterable[Tensor]:
    if isinstance(part, torch.nn.Module):
        return [p for p in part.parameters() if p.requires_grad]
    return [part] if isinstance(part, Tensor) and part.requires_grad and part.is_leaf else []


class Watch:
    """Looks at the graphs that f builds for tensors that are neither its arguments nor known.

    Args:
      known: The tensors whose gradients will be taken.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        self.known = {id(p) for p in known}
        self.nodes = {p.grad_fn for p in known if p.grad_fn is not None}

    def unknown(self, k: Tensor, own: Collection[Node], since: int) -> tuple[list[Tensor], list[Node]]:
        """What the graph of k reaches beyond `own`, the nodes of what f was given.

        Args:
          k: What f returned.
          own: Where to stop.
          since: Sequence number before the evaluation; an older node was made elsewhere.

        Returns:
          Leaves that are not known, and nodes that were made outside of the evaluation.
        """
        leaves: list[Tensor] = []
        foreign: list[Node] = []
        stack, seen = [k.grad_fn], {*own, *self.nodes, None}
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            variable = getattr(node, "variable", None)
            if variable is not None and not node.next_functions:
                if id(variable) not in self.known:
                    leaves.append(variable)
            elif node._sequence_nr() < since:
                foreign.append(node)
            else:
                stack += [following for following, _ in node.next_functions]
        return leaves, foreign


def inspect(field: Field, t: float, y: Tensor, known: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Evaluates f once with its graph, and completes the list of tensors that get gradients.

    Returns:
      f(t, y) without graph, and the leaves that it reaches beyond the known ones.

    Raises:
      InvalidValueError: If f reaches a tensor that was computed outside of it from others that require grad.
    """
    watch = Watch(known)
    leaves, foreign, k = _look(field, t, y, watch)
    if foreign:
        # a graph made on another thread counts on its own: what is foreign is reached again by a second call
        again = _look(field, t, y, watch)[1]
        if set(foreign) & set(again):
            node = next(n for n in foreign if n in set(again))
            raise InvalidValueError(
                f"the field uses a tensor that was computed outside of it (by {node.name()}) and requires grad, "
                f"so its gradient would be lost: {_REMEDY}"
            )
        field.nfe -= 1
    return k, leaves


def _look(field: Field, t: float, y: Tensor, watch: Watch) -> tuple[list[Tensor], list[Node], Tensor]:
    with torch.enable_grad():
        own = y.detach().requires_grad_()
        own = own.view_as(own)
        start = own.grad_fn
        k = field(field.time(t), own)
    assert start is not None
    leaves, foreign = watch.unknown(k, [start], start._sequence_nr())
    return leaves, foreign, k.detach()


class WatchedField(Field):
    """A field whose every evaluation is looked at while steps are replayed.

    Args:
      field: The field of the solve.
      watch: What is known.
    """

    def __init__(self, field: Field, watch: Watch) -> None:
        super().__init__(field.f, field.space)
        self.watch = watch

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y); raises if it reaches a tensor whose gradient would be lost."""
        k = super().__call__(t, y)
        self.look(t, y, k)
        return k

    def look(self, t: Tensor, y: Tensor, k: Tensor, *others: Tensor) -> None:
        """Raises if k, computed at t from y and others, reaches a tensor whose gradient would be lost."""
        if k.grad_fn is None or y.grad_fn is None:
            return
        own = [y.grad_fn, *(other.grad_fn for other in others if other.grad_fn is not None)]
        leaves, foreign = self.watch.unknown(k, own, own[0]._sequence_nr())
        if leaves:
            raise InvalidValueError(
                f"at t = {float(t):.6g} the field uses a tensor of shape {tuple(leaves[0].shape)} that requires grad "
                f"and that it did not use at the start, so its gradient would be lost: {_REMEDY}"
            )
        if foreign and t.device.type == "cpu":
            raise InvalidValueError(
                f"at t = {float(t):.6g} the field uses a tensor that was computed outside of it (by "
                f"{foreign[0].name()}) and requires grad, so its gradient would be lost: {_REMEDY}"
            )
