"""What the nodes of an autograd graph hold, and the way from a tensor's node back to the tensor.

A node keeps the tensors that its derivative needs. It keeps an input as it is, by a C++ reference; of its own output it
keeps a copy without history, so that no node holds its own result. An in-place operation breaks that care: the tensor
that was saved as an input becomes the output of a later node, whose edges lead back to the one that saved it. All links
of that ring are C++ references, which Python's collector can't see.

The node of a view is never asked for here: asking makes a new one after its base has changed, which would itself be held.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from fingerpost.errors import InvalidValueError

LEAF = 1 << 62
"""Sequence numbers from here on belong to nodes that accumulate the gradients of leaves; they hold no graph."""

_names: dict[type, tuple[str, ...]] = {}
_CUSTOM = ("_raw_saved_tensors",)


def require_readable_nodes() -> None:
    """Refuses a torch that does not show what a node holds.

    Raises:
      InvalidValueError: If it does not; the message names the version.
    """
    core: Any = torch._C
    if not hasattr(core._autograd.SavedTensor, "data"):
        raise InvalidValueError(
            f"torch {torch.__version__} does not show what a node holds; leakwatch needs a torch whose SavedTensor has "
            "the attribute data, such as 2.13"
        )


class Ring(NamedTuple):
    """A ring of references through a graph.

    Args:
      nodes: From the node that made the tensor's present value to the node that holds the tensor.
      slot: Where the last node holds it: the name of its saved tensor, or of the attribute of a ctx.
      through_view: Whether it holds a view of the tensor, which keeps the tensor.
      inner: What the hidden node inside the last one saves, where there is such a node.
    """

    nodes: tuple[Any, ...]
    slot: str
    through_view: bool
    inner: str = ""


def root(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor whose graph changes when `tensor` is changed in place: the base of a view, or itself."""
    base = tensor._base
    return tensor if base is None else base


def is_made(tensor: torch.Tensor) -> bool:
    """Whether an operation with a graph made a tensor, or the base of a view. Also ``is_leaf`` would ask for the node."""
    return root(tensor).grad_fn is not None


def held(node: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that a node holds, each with the name of its slot. What a backward pass has freed is not held."""
    kind = type(node)
    names = _names.get(kind)
    if names is None:
        names = _slots(kind)
    for name in names:
        try:
            saved = getattr(node, name)
            values = [item.data for item in saved] if isinstance(saved, (tuple, list)) else (saved.data,)
        except (RuntimeError, AttributeError):
            continue  # freed, or an empty slot
        for value in values:
            yield from tensors_in(name[len("_raw_saved_") :], value)
    if names is _CUSTOM:
        for name, value in list(vars(node).items()):
            yield from tensors_in(f"ctx.{name}", value)


def _slots(kind: type) -> tuple[str, ...]:
    if issubclass(kind, torch.autograd.function.BackwardCFunction):
        return _CUSTOM  # a user's class: not remembered, it may be one of many and die
    _names[kind] = tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
    return _names[kind]


def tensors_in(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in a slot: itself, or one level deep in a tuple, list or dict (what hooks pack, what a ctx collects)."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, (tuple, list)):
        yield from ((name, item) for item in value if isinstance(item, torch.Tensor))
    elif isinstance(value, dict):
        yield from ((name, item) for item in value.values() if isinstance(item, torch.Tensor))


def short_name(node: Any) -> str:
    """The name of a node without its C++ namespace."""
    return node.name().rpartition("::")[2]


def describe(tensor: torch.Tensor) -> str:
    """Type, shape and device of a tensor."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind}[{', '.join(map(str, tensor.shape))}] on {tensor.device}"


def next_nodes(node: Any) -> Iterator[Any]:
    """The nodes that a node passes its gradients to, without those of leaves."""
    for following, _ in node.next_functions:
        if following is not None and following._sequence_nr() < LEAF:
            yield following


def reachable(start: Any) -> list[Any]:
    """All nodes behind `start`, itself first."""
    found, waiting = {start: None}, [start]
    while waiting:
        for following in next_nodes(waiting.pop()):
            if following not in found:
                found[following] = None
                waiting.append(following)
    return list(found)


def find_ring(owner: torch.Tensor, floor: int = -1) -> Ring | None:
    """The way from the node of `owner` to a node that holds `owner`, if there is one.

    Args:
      owner: A tensor that is no view.
      floor: Sequence number of the node that first made the tensor: older nodes can't hold it, and are not read.

    Returns:
      The ring, or None.
    """
    return search(owner, owner.grad_fn, floor)


def search(
    owner: torch.Tensor, start: Any, floor: int, verified: int = -1, through: bool = True
) -> Ring | None:
    """As `find_ring`, from any node, without what is behind the node whose number is `verified`.

    The way goes along edges, and through tensors that a node holds and that were changed after it saved them: their
    present node is none that the edges lead to. With `through` false it goes along edges alone.
    """
    if start is None:
        return None
    before: dict[Any, Any] = {start: None}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        ahead = [following for following, _ in node.next_functions]
        for slot, tensor in held(node):
            base = root(tensor)
            if base is owner:
                return Ring(_way(before, node), slot, tensor is not owner)
            if through:
                ahead.append(base.grad_fn)
        for following in ahead:
            if following is None or following in before:
                continue
            number = following._sequence_nr()
            if floor < number < LEAF and number != verified:
                before[following] = node
                waiting.append(following)
    return None


def _way(before: dict[Any, Any], node: Any) -> tuple[Any, ...]:
    way = [node]
    while before[way[-1]] is not None:
        way.append(before[way[-1]])
    return tuple(reversed(way))


class Examined:
    """Nodes that were read already, and the tensors that they hold.

    A tensor without history may have been saved at any time, so that its whole graph has to be read. Writing each step
    of a sequence into one buffer would make that quadratic; what a node holds never grows, so that reading each node
    once is enough.
    """

    LIMIT = 200_000

    def __init__(self) -> None:
        self._nodes: set[int] = set()
        self._held: set[int] = set()

    def search(self, owner: torch.Tensor, start: Any, verified: int = -1) -> Ring | None:
        """As `search` without a floor, reading only nodes that were not read before."""
        if len(self._nodes) > self.LIMIT:
            self.forget()
        if id(owner) in self._held:
            ring = search(owner, start, -1, verified)
        else:
            ring = self._read(owner, start, verified)
        if ring is not None:
            self.forget()  # the search stopped on its way
        return ring

    def forget(self) -> None:
        """Starts anew."""
        self._nodes.clear()
        self._held.clear()

    def _read(self, owner: torch.Tensor, start: Any, verified: int) -> Ring | None:
        before: dict[Any, Any] = {start: None}
        waiting = [start]
        self._nodes.add(start._sequence_nr())
        while waiting:
            node = waiting.pop()
            ahead = [following for following, _ in node.next_functions]
            for slot, tensor in held(node):
                base = root(tensor)
                if base is owner:
                    return Ring(_way(before, node), slot, tensor is not owner)
                self._held.add(id(base))
                ahead.append(base.grad_fn)
            for following in ahead:
                if following is None or following in before:
                    continue
                number = following._sequence_nr()
                if number < LEAF and number != verified and number not in self._nodes:
                    self._nodes.add(number)
                    before[following] = node
                    waiting.append(following)
        return None


def bytes_behind(start: Any, owner: torch.Tensor, hidden: dict[int, int] | None = None) -> int:
    """Bytes that a ring keeps: what its graph has made and holds, each storage once.

    Leaves that a program still refers to (parameters, inputs) are not counted: they would be there without the graph.

    Args:
      start: The node of `owner`.
      owner: The tensor that changed.
      hidden: Sizes of further storages, by their addresses.
    """
    sizes = dict(hidden or {})
    sizes |= {owner.untyped_storage()._cdata: owner.untyped_storage().nbytes()}
    for node in reachable(start):
        for tensor, references in _kept(node):
            if is_made(tensor) or (not tensor.requires_grad and references <= _alone()):
                storage = tensor.untyped_storage()
                sizes[storage._cdata] = storage.nbytes()
    return sum(sizes.values())


def _kept(node: Any) -> list[tuple[torch.Tensor, int]]:
    return [(tensor, sys.getrefcount(tensor)) for _, tensor in held(node)]


@functools.cache
def _alone() -> int:
    """References that `_kept` counts for a tensor that only a graph holds."""
    with torch.enable_grad():
        made = torch.ones(1, requires_grad=True) * torch.ones(1)
    return min(references for tensor, references in _kept(made.grad_fn) if not tensor.requires_grad)
