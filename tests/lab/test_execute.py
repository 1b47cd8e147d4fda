from __future__ import annotations

import types

import pytest
import torch

from fingerpost.errors import ConfigError, RunError
from fingerpost.lab import RunFolder, Store, run_experiment


def experiment(run, **parts):
    return types.SimpleNamespace(__name__="somewhere.my_toy", run=run, **parts)


def test_a_run_without_a_folder_goes_into_the_store_under_the_module_s_name():
    run = run_experiment(experiment(lambda config, run: run.log("s", 1, x=config["x"])), {"x": 2})
    assert run.finished
    (row,) = Store().list()
    assert (row.experiment, row.status, row.path) == ("my-toy", "completed", str(run.directory))
    assert run.directory.name.startswith("my-toy-20")


def test_a_refused_configuration_leaves_nothing_behind(tmp_path):
    def refuse(config):
        raise ConfigError("sigma must be above 0")

    with pytest.raises(ConfigError, match="sigma"):
        run_experiment(experiment(pytest.fail, check=refuse), {}, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_an_experiment_may_use_the_global_generators_and_stays_reproducible(tmp_path):
    def draw(config, run):
        run.log("s", 1, x=torch.rand(()))

    before = torch.get_rng_state()
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_experiment(experiment(draw), {"seed": seed}, tmp_path / name)
        drawn.append(RunFolder(tmp_path / name).metrics()[0]["x"])
        torch.rand(3)
    assert drawn[0] == drawn[1] != drawn[2]
    run_experiment(experiment(draw), {"seed": 5}, tmp_path / "d")
    torch.set_rng_state(before)
    state = torch.get_rng_state()
    run_experiment(experiment(draw), {"seed": 6}, tmp_path / "e")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_goes_on_when_the_index_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FINGERPOST_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="the run goes on, but is not listed"):
        run = run_experiment(experiment(lambda config, run: None), {}, tmp_path / "r")
    assert RunFolder(run.directory).status == "completed"


def test_a_failure_is_told_in_the_manifest_and_raised_and_the_folder_is_free_again(tmp_path):
    def fail(config, run):
        raise RuntimeError("out of luck")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of luck"):
            run_experiment(experiment(fail), {}, tmp_path / "r")
    folder = RunFolder(tmp_path / "r")
    assert folder.status == "error: RuntimeError: out of luck"
    assert len(folder.manifest["resumed"]) == 1
    with pytest.raises(RunError, match="holds a run already"):
        run_experiment(experiment(fail), {}, tmp_path / "r", resume=False)
