"""What to write instead of a line that leaks, from the line itself."""

from __future__ import annotations

import ast
import copy
from typing import Any

from fingerpost.leakwatch._places import Place, changed, in_place_call

OTHERWISE = (
    "detach or no_grad where no gradient is needed, or torch.autograd.graph.allow_mutation_on_saved_tensors()"
)

COMPILED = "change it out of place there, and return it"


def cure(place: Place, func: Any, view: bool) -> str:
    """The statement rewritten so that the graph does not hold itself; in words where it can't be rewritten.

    Out of place, the result is a new tensor, which no older node holds. Where a part of a tensor is written, what is
    read is copied: the node then holds the copy.

    Args:
      place: The line.
      func: The in-place call that was seen there.
      view: Whether it changed a view: out of place, the tensor behind the view would stay as it was.
    """
    if place.compiled:
        return f"torch.compile copies into an argument that the function changes in place: {COMPILED}"
    statement = copy.deepcopy(place.statement)
    rewritten = _rewritten(statement)
    if rewritten is not None:
        whole = isinstance(rewritten, ast.Assign) and not isinstance(rewritten.targets[0], ast.Subscript)
        warning = " (the tensor behind the view then stays as it was)" if view and whole else ""
        return ast.unparse(rewritten) + warning
    name = getattr(func, "__name__", "the operation").strip("_")
    return f"{name} out of place: a new tensor instead of the old one changed; or {OTHERWISE}"


def _rewritten(statement: ast.stmt | None) -> ast.stmt | None:
    whole = changed(statement)
    if isinstance(statement, ast.AugAssign):
        if not isinstance(statement.target, ast.Subscript):
            return _assignment(statement.target, _load(statement.target), statement.op, statement.value)
        return _reading_copies(statement, ast.unparse(statement.target.value))
    if (
        isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Subscript)
        and whole is not None
    ):
        return _reading_copies(statement, ast.unparse(whole))
    return _called(statement)


def _assignment(target: ast.expr, left: ast.expr, operator: ast.operator, right: ast.expr) -> ast.stmt:
    return _located(ast.Assign([target], ast.BinOp(left, operator, right)))


def _reading_copies(statement: ast.AugAssign | ast.Assign, name: str) -> ast.stmt | None:
    """``x[:, 0] *= x[:, 1]`` → ``x[:, 0] *= x[:, 1].clone()``."""
    copies = _Copies(name)
    statement.value = copies.visit(statement.value)
    return _located(statement) if copies.count else None


class _Copies(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def visit(self, node: ast.AST) -> Any:
        bare = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(bare, ast.expr) and ast.unparse(bare) == self.name:
            self.count += 1
            return ast.Call(ast.Attribute(node, "clone", ast.Load()), [], [])  # type: ignore[arg-type]
        return self.generic_visit(node)


def _called(statement: ast.stmt | None) -> ast.stmt | None:
    """``x.mul_(y)`` → ``x = x.mul(y)``, and ``relu(x, inplace=True)`` → ``x = relu(x)``."""
    call = in_place_call(statement)
    target = changed(statement)
    if call is None or target is None or not isinstance(statement, (ast.Expr, ast.Assign, ast.Return)):
        return None
    if isinstance(call.func, ast.Attribute):
        if isinstance(call.func.value, ast.Subscript):
            return None  # a part of a tensor: out of place it would not reach the whole
        call.func.attr = call.func.attr.removesuffix("_")
    elif isinstance(call.func, ast.Name):
        call.func.id = call.func.id.removesuffix("_")
    call.keywords = [word for word in call.keywords if word.arg != "inplace"]
    if (
        isinstance(statement, ast.Expr)
        and statement.value is call
        and isinstance(target, (ast.Name, ast.Attribute))
    ):
        return _located(ast.Assign([_store(target)], call))
    return _located(statement)


def _load(node: ast.expr) -> ast.expr:
    node = copy.deepcopy(node)
    node.ctx = ast.Load()  # type: ignore[attr-defined]
    return node


def _store(node: ast.expr) -> ast.expr:
    node = copy.deepcopy(node)
    node.ctx = ast.Store()  # type: ignore[attr-defined]
    return node


def _located(statement: ast.stmt) -> ast.stmt:
    return ast.fix_missing_locations(statement)
