"""The user's line: where it stands, and what it says."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
from types import FrameType
from typing import NamedTuple

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_COMPILER = os.path.join(_TORCH, "_functorch", "_aot_autograd")
_OURS = os.path.dirname(__file__) + os.sep
_PARTS = frozenset({"_guard.py", "_functions.py", "_places.py", "_inner.py"})


class Place(NamedTuple):
    """A line of a program.

    Args:
      file: Its file.
      line: Its number.
      function: The function that it is in.
      compiled: Whether code that torch.compile made changed the tensor, on its way out of the line's function.
    """

    file: str
    line: int
    function: str
    compiled: bool = False

    @property
    def statement(self) -> ast.stmt | None:
        """The statement, parsed; None where there is no source, or where several of the line could be meant."""
        return statement_at(self.file, self.line)

    @property
    def text(self) -> str:
        """The line without its indentation; nothing where there is no source."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def target(self) -> str:
        """What the statement calls the tensor that it changes; nothing where that can't be told."""
        node = changed(self.statement)
        return "" if node is None else ast.unparse(node)


def user_place() -> Place:
    """The innermost line that is neither torch's nor the guard's."""
    frame: FrameType | None = sys._getframe(1)
    compiled = False
    while frame is not None:
        file = frame.f_code.co_filename
        if not _inside(file):
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
            return Place(file, frame.f_lineno, name, compiled)
        compiled = compiled or file.startswith(_COMPILER)
        frame = frame.f_back
    return Place("<unknown>", 0, "<unknown>")


def _inside(file: str) -> bool:
    return file.startswith(_TORCH) or (file.startswith(_OURS) and os.path.basename(file) in _PARTS)


def statement_at(file: str, line: int) -> ast.stmt | None:
    """The innermost simple statement that covers a line, or None."""
    tree = _tree(file, "".join(linecache.getlines(file)))
    if tree is None:
        return None
    simple = (ast.AugAssign, ast.Assign, ast.AnnAssign, ast.Expr, ast.Return)
    covering = [
        node
        for node in ast.walk(tree)
        if isinstance(node, simple) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    changing = [node for node in covering if changed(node) is not None]
    chosen = changing or covering
    if len(changing) > 1:
        return None  # several on one line: any guess could be the wrong one
    return min(chosen, key=lambda node: (node.end_lineno or node.lineno) - node.lineno, default=None)


@functools.lru_cache(maxsize=16)
def _tree(file: str, source: str) -> ast.Module | None:
    try:
        return ast.parse(source) if source else None
    except (SyntaxError, ValueError):
        return None


def changed(statement: ast.stmt | None) -> ast.expr | None:
    """The expression whose tensor a statement changes: ``x`` in ``x /= n``, ``x[:, 0] = v`` and ``x.mul_(y)``."""
    if isinstance(statement, ast.AugAssign):
        return _whole(statement.target)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        return _whole(statement.targets[0])
    call = in_place_call(statement)
    if call is None:
        return None
    if (
        isinstance(call.func, ast.Attribute)
        and call.func.attr.endswith("_")
        and not _is_module(call.func.value)
    ):
        return _whole(call.func.value)
    return _whole(call.args[0]) if call.args else None


def in_place_call(statement: ast.stmt | None) -> ast.Call | None:
    """The call in a statement that changes a tensor: by a name that ends in ``_`` or by ``inplace=True``."""
    if statement is None:
        return None
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            asked = any(word.arg == "inplace" for word in node.keywords)
            if asked or (name.endswith("_") and not name.endswith("__")):
                return node
    return None


def _is_module(node: ast.expr) -> bool:
    return ast.unparse(node) in ("torch", "F", "functional", "torch.nn.functional", "nn.functional")


def _whole(node: ast.expr) -> ast.expr:
    """The tensor behind slices: ``x`` of ``x[:, 0]``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node
