"""Runs an experiment in small, and reads what it left, for the tests of all experiments."""

import dataclasses

from fingerpost.experiments import load_experiment
from fingerpost.lab import RunFolder, run_experiment

RESULTS = (
    "claims.json", "contents.json", "metrics.jsonl", "figures/*.svg", "tables/*.csv", "audits/*", "stages/*", "*.csv",
    "*.safetensors",
)  # fmt: skip


def carry_out(name, folder, **changes):
    """The finished folder of the quick preset with `changes`."""
    module = load_experiment(name)
    config = dataclasses.replace(module.PRESETS["quick"], **changes)
    run_experiment(module, config, folder, name=name, preset="quick")
    return RunFolder(folder)


def results_of(folder):
    """Every result file of a run folder by its path, as bytes; what holds dates is left out."""
    return {
        path.relative_to(folder): path.read_bytes() for name in RESULTS for path in sorted(folder.glob(name))
    }
