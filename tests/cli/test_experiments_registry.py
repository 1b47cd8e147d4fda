"""The registry of experiments, and users' own files."""

from __future__ import annotations

import sys

import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import EXPERIMENTS, find_experiment, load_experiment

WHOLE = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Config:
    seed: int = 0
PRESETS = {"full": Config()}
def run(config, run):
    pass
"""


def test_names_are_keys_and_are_typed_with_hyphens():
    for name, entry in EXPERIMENTS.items():
        assert entry.name == name
        assert (entry.typed, entry.is_file) == (name, False)
        assert name.replace("-", "_") == entry.module.rpartition(".")[2]
        assert entry.title
        assert entry.summary.endswith(".")


def test_a_users_file_is_found_by_its_path_and_named_for_its_stem(tmp_path):
    file = tmp_path / "my_own.py"
    file.write_text(WHOLE)
    entry = find_experiment(str(file))
    assert (entry.name, entry.typed, entry.is_file) == ("my-own", str(file), True)
    assert load_experiment(str(file)).PRESETS["full"].seed == 0


def test_loading_leaves_the_import_path_and_forgets_a_file_that_fails(tmp_path):
    file = tmp_path / "failing_file.py"
    file.write_text("raise ValueError('no')")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(ConfigError, match=r"failing_file.py cannot be imported: ValueError: no"):
        load_experiment(str(file))
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if "failing_file" in name}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Config", "class Settings", "needs a dataclass named Config"),
        ("frozen=True", "frozen=False", "must be @dataclass\\(frozen=True\\)"),
        ("seed: int", "sede: int", "needs a field 'seed: int = 0'"),
        ("PRESETS", "OTHERS", "needs PRESETS"),
        ('{"full": Config()}', "{}", "needs PRESETS"),
        ('{"full": Config()}', '{"full": 3}', "preset 'full' in .* must be a Config, and is a int"),
        ("def run(", "def ran(", "needs a function run\\(config, run\\)"),
    ],
)
def test_a_file_that_is_not_an_experiment_says_what_is_missing(tmp_path, old, new, message):
    file = tmp_path / "part.py"
    source = WHOLE.replace(old, new)
    file.write_text(
        source.replace('= {"full": Config()}', '= {"full": Settings()}') if "Settings" in new else source
    )
    with pytest.raises(ConfigError, match=message):
        load_experiment(str(file))
