"""Hints at lines that may keep memory for ever, from the text of a program alone.

A hint is no finding: whether a line leaks depends on whether its tensor has a graph, which the text does not say.
`fingerpost.leakwatch.LeakGuard` knows. Nothing is imported or run, torch included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fingerpost.errors import InvalidValueError

Rule = Literal["reads-itself", "kept-output"]

# Functions and methods whose derivative needs their input, so that their node holds it.
_SAVES_INPUT = frozenset([
    "norm", "vector_norm", "pow", "square", "prod", "std", "var", "std_mean", "var_mean", "sin", "cos",
    "tan", "log", "log2", "log10", "log1p", "abs", "atan", "asin", "acos", "sinh", "cosh", "erf",
    "gelu", "silu", "mish", "softplus", "elu", "leaky_relu", "logsumexp", "layer_norm", "group_norm",
    "rms_norm", "batch_norm", "normalize", "cosine_similarity", "matmul", "mm", "bmm", "mv", "einsum",
    "linear", "conv1d", "conv2d", "conv3d", "addmm", "baddbmm", "outer", "cumprod", "clamp", "clip",
])  # fmt: skip
# What makes a tensor without a graph.
_WITHOUT_GRAPH = frozenset([
    "detach", "item", "tolist", "numpy", "zeros", "ones", "empty", "full", "zeros_like", "ones_like",
    "empty_like", "full_like", "arange", "linspace", "rand", "randn", "randint", "rand_like",
    "randn_like", "eye", "len", "int", "float", "range",
])  # fmt: skip


@dataclass(frozen=True, order=True)
class Hint:
    """One line that may leak.

    Args:
      file: Its file.
      line: Its number.
      rule: ``"reads-itself"``: an in-place operation whose other side has saved the tensor; ``"kept-output"``: a custom
        Function that keeps its own output on ctx.
      message: What may happen, and what to write instead.
    """

    file: str
    line: int
    rule: Rule
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


def lint_source(source: str, file: str = "<source>") -> list[Hint]:
    """Hints for the text of one file. A file that does not import torch gets none.

    Args:
      source: Its text.
      file: Its name, for the hints.

    Returns:
      The hints, in the order of their lines.

    Raises:
      InvalidValueError: If the text is not Python.

    >>> [hint] = lint_source('''
    ... import torch
    ... def forward(self, x):
    ...     x = self.linear(x)
    ...     x /= torch.norm(x)
    ...     return x
    ... ''')
    >>> hint.line, hint.rule
    (5, 'reads-itself')
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise InvalidValueError(f"{file} is not Python: {error}") from error
    if not _imports_torch(tree):
        return []
    hints = [hint for function in _functions(tree) for hint in _Function(function, file).hints()]
    hints += [hint for kind in ast.walk(tree) if isinstance(kind, ast.ClassDef) for hint in _kept(kind, file)]
    return sorted(set(hints))


def lint_paths(paths: list[Path]) -> tuple[list[Hint], int, list[str]]:
    """Hints for files, and for all Python files in folders.

    Args:
      paths: Files and folders.

    Returns:
      The hints, the number of lines read, and a line for each file that could not be read.

    Raises:
      InvalidValueError: If there is no such path.
    """
    hints: list[Hint] = []
    lines, failures = 0, []
    for path in paths:
        if not path.exists():
            raise InvalidValueError(f"there is no file or folder {str(path)!r}")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            try:
                source = file.read_text(encoding="utf-8")
                hints += lint_source(source, str(file))
                lines += source.count("\n")
            except (InvalidValueError, UnicodeDecodeError, OSError, RecursionError) as error:
                failures.append(f"{file}: {error}")
    return hints, lines, failures


def _imports_torch(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] == "torch" for name in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            return True
    return False


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.Module]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if not _without_gradients(node.decorator_list):
            yield node


def _without_gradients(expressions: list[ast.expr]) -> bool:
    names = ("no_grad", "inference_mode", "_use_grad_for_differentiable", "allow_mutation_on_saved_tensors")
    return any(name in ast.unparse(expression) for expression in expressions for name in names)


class _Function:
    """One function, read from top to bottom: which tensors have a graph, and which names come from saving them."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Module, file: str) -> None:
        self.body, self.file = node.body, file
        self.graph: set[str] = set()
        if getattr(node, "name", "") == "forward" and not isinstance(node, ast.Module):
            self.graph |= {argument.arg for argument in node.args.args[1:]}
        self.made_of: dict[str, set[str]] = {}

    def hints(self) -> list[Hint]:
        return list(self._block(self.body))

    def _block(self, body: list[ast.stmt]) -> Iterator[Hint]:
        for statement in body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if isinstance(statement, (ast.With, ast.AsyncWith)) and _without_gradients(
                [item.context_expr for item in statement.items]
            ):
                continue
            yield from self._statement(statement)
            for inner in ("body", "orelse", "finalbody"):
                yield from self._block(getattr(statement, inner, []))

    def _statement(self, statement: ast.stmt) -> Iterator[Hint]:
        if isinstance(statement, ast.AugAssign):
            yield from self._changed(statement, statement.target, statement.value, statement.op)
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
            if isinstance(target, ast.Subscript) and _is_slice(target.slice):
                yield from self._changed(statement, target, statement.value, None)
            elif isinstance(target, (ast.Name, ast.Attribute)):
                self._assigned(ast.unparse(target), statement.value)
            elif isinstance(target, ast.Tuple):
                for part in target.elts:
                    self._forget(ast.unparse(part))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if isinstance(call.func, ast.Attribute) and call.func.attr in (
                "mul_",
                "div_",
                "add_",
                "sub_",
                "copy_",
            ):
                for value in call.args:
                    yield from self._changed(
                        statement, call.func.value, value, _OPERATORS.get(call.func.attr)
                    )

    def _assigned(self, name: str, value: ast.expr) -> None:
        self._forget(name)
        if _makes_graph(value, self.graph):
            self.graph.add(name)
        sources = _saved_names(value) | {
            source for used in _names(value) for source in self.made_of.get(used, ())
        }
        self.made_of[name] = sources - {name}

    def _forget(self, name: str) -> None:
        self.graph.discard(name)
        self.made_of.pop(name, None)
        for sources in self.made_of.values():
            sources.discard(name)

    def _changed(
        self, statement: ast.stmt, target: ast.expr, value: ast.expr, operator: ast.operator | None
    ) -> Iterator[Hint]:
        part, sliced = target, False
        while isinstance(part, ast.Subscript):
            part, sliced = part.value, True
        name = ast.unparse(part)
        if name not in self.graph:
            return
        saved = _saved_names(value) | {
            source for used in _names(value) for source in self.made_of.get(used, ())
        }
        if isinstance(operator, (ast.Mult, ast.Div)) and _bare(value) == name:
            saved.add(name)
        if name in saved:
            cure = "read a .clone() of it" if sliced else "write it out of place"
            yield Hint(
                self.file, statement.lineno, "reads-itself",
                f"{name} is changed in place by what was made of {name}; if it has a graph, the graph holds itself and is "
                f"never freed: {cure}",
            )  # fmt: skip


_OPERATORS: dict[str, ast.operator] = {"mul_": ast.Mult(), "div_": ast.Div()}


def _is_slice(index: ast.expr) -> bool:
    """Whether an index makes a view: an index tensor or a list makes a copy."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return all(isinstance(part, (ast.Slice, ast.Constant, ast.UnaryOp)) for part in parts)


def _bare(value: ast.expr) -> str:
    while isinstance(value, ast.Subscript):
        value = value.value
    return ast.unparse(value)


def _names(value: ast.expr) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(value) if isinstance(node, (ast.Name, ast.Attribute))}


def _saved_names(value: ast.expr) -> set[str]:
    """Tensors that a node of the expression would hold: arguments of what saves its input, and both sides of x*y."""
    found: set[str] = set()
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _SAVES_INPUT:
                found |= {_bare(argument) for argument in node.args}
                if isinstance(node.func, ast.Attribute):
                    found.add(_bare(node.func.value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            found.add(_bare(node.left))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            found |= {_bare(node.left), _bare(node.right)}
    return found


def _makes_graph(value: ast.expr, graph: set[str]) -> bool:
    """Whether an expression may make a tensor with a graph: what a call returns, and what is made of such."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _WITHOUT_GRAPH:
                return False
    if isinstance(value, ast.Call) and (value.args or isinstance(value.func, ast.Attribute)):
        return True
    return bool(_names(value) & graph) or any(
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) for node in ast.walk(value)
    )


def _kept(kind: ast.ClassDef, file: str) -> Iterator[Hint]:
    """``ctx.y = y`` where y is what the forward pass returns."""
    if not any(ast.unparse(base).endswith(("autograd.Function", "Function")) for base in kind.bases):
        return
    for method in kind.body:
        if not isinstance(method, ast.FunctionDef) or method.name not in ("forward", "setup_context"):
            continue
        arguments = [argument.arg for argument in method.args.args]
        if not arguments:
            continue
        context = arguments[0]
        outputs = _outputs(method)
        for node in ast.walk(method):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                target = node.targets[0]
                if ast.unparse(target.value) == context and _elements(node.value) & (
                    outputs | {ast.unparse(target)}
                ):
                    yield Hint(
                        file, node.lineno, "kept-output",
                        f"{ast.unparse(target)} keeps an output, which keeps its node, which is {context}: use "
                        f"{context}.save_for_backward for outputs",
                    )  # fmt: skip


def _outputs(method: ast.FunctionDef) -> set[str]:
    """Names of what a forward pass returns; in setup_context, of its last argument."""
    if method.name == "setup_context":
        names = {method.args.args[-1].arg} if len(method.args.args) > 2 else set()
        for node in ast.walk(method):
            if isinstance(node, ast.Assign) and _bare(node.value) in names:
                names |= _elements(node.targets[0])
        return names
    returned = (
        node.value for node in ast.walk(method) if isinstance(node, ast.Return) and node.value is not None
    )
    return {name for value in returned for name in _elements(value)}


def _elements(value: ast.expr) -> set[str]:
    parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [value]
    return {ast.unparse(part) for part in parts if isinstance(part, (ast.Name, ast.Attribute))}
