"""The experiment on in-place operations that keep memory, in small."""

import dataclasses
import json

import pytest

from experiments.carrying import carry_out
from fingerpost.errors import ConfigError
from fingerpost.experiments import load_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    changes = {"passes": 3, "rows": 200, "width": 16, "corpus_rows": 16, "corpus_passes": 2}
    return carry_out("inplace-leak", tmp_path_factory.mktemp("run") / "leak", **changes)


def test_all_claims_hold_in_small(folder):
    assert [claim.name for claim in folder.claims() if not claim.holds] == []
    assert len(folder.claims()) == 9


def test_the_leak_is_the_tensor_its_copy_and_the_norms_to_the_byte(folder):
    claims = {claim.name: claim for claim in folder.claims()}
    assert claims["in-place-norm-leaks"].measured == pytest.approx(2 + 1 / 16, abs=1e-12)
    assert claims["lost-with-backward-too"].measured == pytest.approx(1 + 1 / 16, abs=1e-12)


def test_the_contents_show_curves_the_guards_report_and_every_form(folder):
    names = [row["name"] for row in json.loads((folder.directory / "contents.json").read_text())]
    assert names == ["curves", "curves", "report", "corpus"]
    table = (folder.directory / "tables" / "corpus.csv").read_text()
    assert table.count("\n") == 1 + 10 + 29
    assert "NO" not in table.split()
    assert (
        "DivBackward0 → LinalgVectorNormBackward0" in (folder.directory / "tables" / "report.csv").read_text()
    )


@pytest.mark.parametrize("changes", [{"passes": 1}, {"width": 4}, {"corpus_rows": 1}, {"dtype": "float64"}])
def test_settings_that_cannot_work_are_refused(changes):
    module = load_experiment("inplace-leak")
    with pytest.raises(ConfigError):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
