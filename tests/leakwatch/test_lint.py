"""Static hints: what the corpus shows in its text, and silence on code that is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fingerpost.errors import InvalidValueError
from fingerpost.leakwatch import corpus, harmless
from fingerpost.leakwatch.lint import lint_paths, lint_source


def hints(body: str, head: str = "import torch\n") -> list[tuple[int, str]]:
    return [(hint.line, hint.rule) for hint in lint_source(head + body)]


def test_the_leaking_forms_that_show_in_their_text_are_hinted_at_their_lines_and_no_other_line_is():
    found = {hint.line for hint in lint_paths([Path(corpus.__file__)])[0]}
    lines = {form.name: form.line() for form in corpus.LEAKING}
    missed = {name for name, line in lines.items() if line not in found}
    assert missed == {"a view of x *= sin(x)", "buffer += W(data) * buffer"}
    assert found <= set(lines.values())


def test_no_harmless_form_is_hinted_at():
    assert lint_paths([Path(harmless.__file__)])[0] == []


def test_torchs_own_layers_and_optimisers_get_no_hint():
    root = Path(torch.__file__).parent
    found, lines, failures = lint_paths([root / "nn", root / "optim"])
    assert found == []
    assert failures == []
    assert lines > 50_000


@pytest.mark.parametrize(
    "body",
    [
        "def f(net, d):\n    x = net(d)\n    x /= x.norm()\n",
        "def f(net, d):\n    x = net(d)\n    n = 1 + x.norm()\n    x -= n\n",
        "class M:\n  def forward(self, x):\n    x *= x\n",
        "def f(net, d):\n    x = net(d)\n    x[:, 0] = x[:, 1] ** 2\n",
        "def f(net, d):\n    x = net(d)\n    x.mul_(x)\n",
        "def f(net, d):\n    x = d @ net\n    x += torch.sin(x)\n",
    ],
)
def test_an_operation_that_reads_what_saved_its_tensor_is_hinted_at(body):
    assert hints(body) == [(body.count("\n") + 1, "reads-itself")]


@pytest.mark.parametrize(
    "body",
    [
        "def f(net, d):\n    x = net(d)\n    x = x / x.norm()\n",
        "def f(net, d):\n    x = net(d)\n    x += x.mean()\n",
        "def f(net, d):\n    x = net(d).detach()\n    x /= x.norm()\n",
        "def f(net, d):\n    x = torch.zeros(3)\n    x *= x\n",
        "def f(net, d):\n    x = net(d)\n    with torch.no_grad():\n        x /= x.norm()\n",
        "@torch.no_grad()\ndef f(net, d):\n    x = net(d)\n    x /= x.norm()\n",
        "def f(net, d):\n    x = net(d)\n    n = x.norm()\n    x = x + 1\n    x /= n\n",
        "def f(net, d, i):\n    x = net(d)\n    x[i] = x[i] ** 2\n",
        "n = 3\nn *= n\n",
    ],
)
def test_what_can_not_leak_is_not_hinted_at(body):
    assert hints(body) == []


def test_only_outputs_kept_on_ctx_are_hinted_at():
    body = (
        "class F(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x, size):\n"
        "        y = x.exp()\n"
        "        ctx.size = size\n"
        "        ctx.x = x\n"
        "        ctx.y = y\n"
        "        return y\n"
    )
    assert hints(body) == [(8, "kept-output")]
    setup = (
        "class F(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def setup_context(ctx, inputs, output):\n"
        "        first, second = output\n"
        "        ctx.first = first\n"
        "        ctx.inputs = inputs\n"
    )
    assert hints(setup) == [(6, "kept-output")]


def test_a_file_without_torch_gets_no_hints_and_one_that_is_no_python_is_named(tmp_path):
    assert hints("def f(net, d):\n    x = net(d)\n    x *= x\n", head="") == []
    with pytest.raises(InvalidValueError, match="<source> is not Python"):
        lint_source("def f(:")
    (tmp_path / "broken.py").write_text("def f(:")
    found, _, failures = lint_paths([tmp_path])
    assert found == []
    assert "broken.py is not Python" in failures[0]
    with pytest.raises(InvalidValueError, match="there is no file or folder"):
        lint_paths([tmp_path / "missing"])
