"""The accounting of memory, and the experiment on it in small."""

import dataclasses

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import load_experiment
from fingerpost.experiments._live_bytes import LiveBytes
from fingerpost.lab import RunFolder, run_experiment


def test_bytes_are_counted_while_only_a_graph_holds_them():
    x = torch.ones(1000, requires_grad=True)
    with LiveBytes() as memory:
        y = x.exp().sin().sum()  # sin keeps exp's result
        assert memory.now >= 4000
        y.backward()
        del y
        assert memory.peak >= 8000
    assert x.grad is not None


def test_a_view_counts_nothing_and_a_restart_forgets_the_peak():
    with LiveBytes() as memory:
        x = torch.ones(100)
        rows = x.view(10, 10)[2:]
        assert memory.now == 400
        del x, rows
        assert (memory.now, memory.peak) == (0, 400)
        memory.restart()
        assert memory.peak == 0


def test_all_claims_hold_in_small_and_repeat(tmp_path):
    module = load_experiment("adjoint-memory")
    config = dataclasses.replace(module.PRESETS["quick"], steps=(4, 8, 16), batch=16)
    tables = []
    for name in ("first", "second"):
        run_experiment(module, config, tmp_path / name, name="adjoint-memory", preset="quick")
        folder = RunFolder(tmp_path / name)
        assert [claim.name for claim in folder.claims() if not claim.holds] == []
        tables.append((tmp_path / name / "tables" / "costs.csv").read_text())
    assert tables[0] == tables[1]


@pytest.mark.parametrize("changes", [{"steps": (4, 8)}, {"steps": (8, 4, 16)}, {"dtype": "float32"}])
def test_settings_that_cannot_work_are_refused(changes):
    module = load_experiment("adjoint-memory")
    with pytest.raises(ConfigError):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
