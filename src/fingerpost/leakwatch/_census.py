"""A census after the fact: graphs that hold themselves and that nobody holds, and their release."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fingerpost.leakwatch._graph import (
    LEAF,
    describe,
    held,
    is_made,
    require_readable_nodes,
    search,
    short_name,
    tensors_in,
)
from fingerpost.leakwatch._inner import hidden_rings
from fingerpost.leakwatch._report import amount

_PASSES = 64
_CUSTOM = torch.autograd.function.BackwardCFunction


@dataclass(frozen=True)
class Orphan:
    """A ring of references that nothing in the program leads to.

    Args:
      tensor: Shape, type and device of the tensor that holds itself through its graph.
      ring: The references, from the tensor back to it.
      nbytes: Bytes of all storages that the ring and its graph keep, as if there were no other orphan.
      reference: A weak reference to the tensor.
      views: Weak references to its views.
      own: References from Python that are part of the ring: attributes of a ctx.
    """

    tensor: str
    ring: tuple[str, ...]
    nbytes: int
    reference: weakref.ref[torch.Tensor]
    views: tuple[weakref.ref[torch.Tensor], ...] = ()
    own: int = 0

    def __str__(self) -> str:
        return f"{amount(self.nbytes)}  {' → '.join(self.ring)}  {self.tensor}"


@dataclass(frozen=True)
class Census:
    """What `census` found.

    Args:
      orphans: Rings that nothing leads to.
      in_use: Rings that the program can still reach: a step that is under way, or will be orphans later.
      nbytes: Bytes that the orphans keep together, each storage once; what the program holds too is not counted.
    """

    orphans: tuple[Orphan, ...]
    in_use: int
    nbytes: int

    def release(self) -> int:
        """Cuts each orphan from its graph, which frees the ring and what only it kept.

        A tensor that the program has got hold of in the meantime is left alone.

        Returns:
          The number of rings that were cut.
        """
        cut = 0
        for orphan in self.orphans:
            tensor = orphan.reference()
            if tensor is not None and tensor.grad_fn is not None and not _named(tensor, 1 + orphan.own):
                cut += 1
                tensor.detach_()
                self._renew(tensor, orphan.views)
            del tensor
        gc.collect()
        return cut

    @staticmethod
    def _renew(base: torch.Tensor, references: tuple[weakref.ref[torch.Tensor], ...]) -> None:
        """A view that was used after its base had changed has a node of its own; asked anew, it makes an empty one."""
        torch.autograd.graph.increment_version(base)
        for reference in references:
            view = reference()
            if view is not None:
                _node(view)

    def __str__(self) -> str:
        many = "" if len(self.orphans) == 1 else "s"
        head = f"census: {len(self.orphans)} orphan{many}, {amount(self.nbytes)}; {self.in_use} rings in use"
        return "\n".join([head, *(f"  {orphan}" for orphan in self.orphans)])


def census() -> Census:
    """Looks at all live tensors for graphs that hold themselves and that nobody holds.

    It needs no guard to have run. Python's collector still lists a tensor that only C++ refers to, once it has had a
    name in Python, and from a tensor its graph can be read. It finds the rings, not the lines that made them; the guard
    names lines. It can't see tensors that never were in Python, nor what the hidden nodes of operations on views hold:
    of those rings only the ones that a visible node closes are found.

    Python's collector runs first, so that what it can free is not counted.

    Returns:
      A `Census`, whose ``release()`` frees the orphans.

    Raises:
      InvalidValueError: If torch does not show what a node holds.

    >>> import torch
    >>> weight = torch.ones(256, 256, requires_grad=True)
    >>> data = torch.ones(256, 256)
    >>> def leak():
    ...     x = data @ weight
    ...     x *= x
    >>> leak()
    >>> found = census()
    >>> [orphan.ring for orphan in found.orphans], found.nbytes
    ([('tensor', 'MulBackward0', 'tensor')], 524288)
    >>> found.release()
    1
    >>> len(census().orphans)
    0
    """
    require_readable_nodes()
    for _ in range(_PASSES):  # a deep network of Functions that keep their outputs is freed a layer at a pass
        if not gc.collect():
            break
    picture = _Picture()
    orphans, in_use = picture.rings()
    return Census(orphans, in_use, picture.bytes_of_orphans)


class _Picture:
    """All live tensors with a graph, their nodes, and who holds whom."""

    def __init__(self) -> None:
        self.items: dict[int, Any] = {}
        self.edges: dict[int, list[int]] = {}
        self.roots: set[int] = set()
        self.bytes_of_orphans = 0
        self._read()

    def _read(self) -> None:
        tensors, wrappers = _alive()
        self.kept = Counter(id(tensor) for node in wrappers for tensor in _on_ctx(node))
        named = {id(item) for item in [*tensors, *wrappers] if _named(item, 3 + self.kept[id(item)])}
        hidden = {id(tensor): tensor for tensor in hidden_rings()}
        waiting = [*tensors, *wrappers]
        self.items = {id(item): item for item in waiting}
        closing: dict[int, int] = {}
        while waiting:
            item = waiting.pop()
            following = list(_following(item))
            if id(item) in hidden:
                closing[id(item.grad_fn)] = id(item)
            self.edges[id(item)] = [id(other) for other in following]
            for other in following:
                if id(other) not in self.items:
                    self.items[id(other)] = other
                    waiting.append(other)
        for node, tensor in closing.items():
            if node in self.edges:
                self.edges[node].append(tensor)
        # What no other item holds is held by the program, whatever its count.
        known = {other for others in self.edges.values() for other in others}
        self.roots = named | {id(item) for item in wrappers if id(item) not in known}

    def rings(self) -> tuple[tuple[Orphan, ...], int]:
        """Orphans, and the number of rings that can still be reached."""
        reached = self._reach(self.roots)
        found: list[Orphan] = []
        in_use = 0
        orphaned: set[int] = set()
        for part in self._components():
            if not part & reached:
                found += self._orphans(part)
                orphaned |= part
            else:
                in_use += 1
        sizes = self._sizes(self._reach(orphaned) - reached)
        taken = self._sizes(reached)
        self.bytes_of_orphans = sum(size for storage, size in sizes.items() if storage not in taken)
        return tuple(found), in_use

    def _orphans(self, part: set[int]) -> list[Orphan]:
        """The tensors of a part whose own edges lead back to them; where there is none, one that leads through others."""
        items = [self.items[number] for number in sorted(part)]
        tensors = [item for item in items if isinstance(item, torch.Tensor) and item._base is None]
        direct = [orphan for tensor in tensors if (orphan := self._orphan(tensor, through=False))]
        if direct:
            return direct
        return [orphan for tensor in tensors if (orphan := self._orphan(tensor, through=True))][:1]

    def _orphan(self, item: torch.Tensor, through: bool) -> Orphan | None:
        if item.grad_fn is None:
            return None
        ring = search(item, item.grad_fn, -1, through=through)
        if ring is None and id(item) not in map(id, hidden_rings()):
            return None
        nodes = ring.nodes if ring else (item.grad_fn,)
        last = "a view of tensor" if ring is None or ring.through_view else "tensor"
        names = ("tensor", *map(short_name, nodes), last)
        size = sum(self._sizes(self._reach({id(item)})).values())
        views = tuple(
            weakref.ref(other)
            for other in self.items.values()
            if isinstance(other, torch.Tensor) and other._base is item
        )
        return Orphan(describe(item), names, size, weakref.ref(item), views, self.kept[id(item)])

    def _sizes(self, numbers: set[int]) -> dict[int, int]:
        """Bytes of each storage; a leaf that the program refers to would be there without any graph."""
        sizes = {}
        for number in numbers:
            item = self.items[number]
            if isinstance(item, torch.Tensor):
                # Seen by the table of items and by this loop.
                if not is_made(item) and (item.requires_grad or _named(item, 2)):
                    continue
                sizes[item.untyped_storage()._cdata] = item.untyped_storage().nbytes()
        return sizes

    def _reach(self, start: set[int]) -> set[int]:
        found, waiting = set(start), list(start)
        while waiting:
            for other in self.edges.get(waiting.pop(), ()):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    def _components(self) -> Iterator[set[int]]:
        """Sets of items that all lead to each other, of more than one item (Tarjan 1972, without recursion)."""
        number: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        for start in self.edges:
            if start in number:
                continue
            work: list[tuple[int, Iterator[int]]] = [(start, iter(self.edges[start]))]
            number[start] = low[start] = len(number)
            stack.append(start)
            on_stack.add(start)
            while work:
                item, others = work[-1]
                other = next(others, None)
                if other is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[item])
                    if low[item] == number[item]:
                        part = set()
                        while item not in part:
                            part.add(stack.pop())
                        on_stack -= part
                        if len(part) > 1:
                            yield part
                elif other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(self.edges.get(other, ()))))
                elif other in on_stack:
                    low[item] = min(low[item], number[other])


def _alive() -> tuple[list[torch.Tensor], list[Any]]:
    """Live tensors with a graph, and nodes that have a name in Python."""
    nodes: dict[type, bool] = {}
    tensors, wrappers = [], []
    for item in gc.get_objects():
        kind = type(item)
        if kind not in nodes:
            nodes[kind] = hasattr(kind, "next_functions") and hasattr(kind, "_sequence_nr")
        if nodes[kind]:
            wrappers.append(item)
        elif issubclass(kind, torch.Tensor) and is_made(item):
            tensors.append(item)
    return tensors, wrappers


def _named(item: Any, known: int) -> bool:
    """Whether the program itself refers to an item, beside `known` references and those that C++ has.

    C++ refers to the Python side of a tensor if more than one C++ reference leads to it, and to that of a node likewise.
    """
    if isinstance(item, torch.Tensor):
        below = int(item._use_count() > 1)  # type: ignore[attr-defined]
    else:
        below = 1 if isinstance(item, _CUSTOM) else _below_nodes()
    return sys.getrefcount(item) - 2 > known + below  # this argument, and that of getrefcount


@functools.cache
def _below_nodes() -> int:
    """References that C++ itself has to the Python side of a node: it depends on torch's version."""
    with torch.enable_grad():
        made = torch.ones(1, requires_grad=True) * 2
        node = made.grad_fn
    return sys.getrefcount(node) - 2  # its name, and the argument


def _on_ctx(node: Any) -> Iterator[torch.Tensor]:
    if isinstance(node, _CUSTOM):
        for value in vars(node).values():
            yield from (tensor for _, tensor in tensors_in("", value))


def _node(tensor: torch.Tensor) -> Any:
    """The node of a tensor. Of a view this may make a new one, which leads where the base leads: no ring comes of it."""
    try:
        return tensor.grad_fn
    except RuntimeError:  # torch refuses views that were made without gradients, once their base has one
        return None


def _following(item: Any) -> Iterator[Any]:
    """What an item keeps alive: a tensor its base and its node, a node its tensors and the nodes behind it."""
    if isinstance(item, torch.Tensor):
        if item._base is not None:
            yield item._base
        node = _node(item)
        if node is not None:
            yield node
        return
    for _, tensor in held(item):
        yield tensor
    for following, _ in item.next_functions:
        if following is not None and following._sequence_nr() < LEAF:
            yield following
