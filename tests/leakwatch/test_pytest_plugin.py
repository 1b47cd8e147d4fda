"""The fixture leak_guard, in a pytest session of its own."""

from __future__ import annotations

import subprocess
import sys

PLUGIN = "fingerpost.leakwatch.pytest_plugin"
TESTS = """
import torch

def step(keep):
    x = torch.ones(3, 3) @ torch.ones(3, 3, requires_grad=True)
    if keep:
        x *= x
    return x

def test_clean(leak_guard):
    step(False)
    assert leak_guard.report.leaks == []

def test_leaks(leak_guard):
    step(True)

def test_expects_it(leak_guard):
    step(True)
    assert leak_guard.report.leaks.pop().source == "x *= x"

def test_without_the_fixture():
    step(True)

def test_fails_by_itself(leak_guard):
    step(True)
    assert False, "its own failure"
"""


def test_a_test_whose_line_leaks_fails_with_the_report(tmp_path):
    file = tmp_path / "test_steps.py"
    file.write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q", "-rf", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert "2 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "x → MulBackward0 → x" in done.stdout
    assert "cure   x = x * x" in done.stdout
    assert "its own failure" in done.stdout


def test_loading_the_plugin_imports_no_torch():
    code = f"import sys, {PLUGIN}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_package_can_be_listed_without_torch():
    code = "import sys, fingerpost.leakwatch as l; dir(l); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
