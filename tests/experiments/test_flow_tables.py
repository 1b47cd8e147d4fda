"""The experiments on tables in small: a user's own file end to end, the baselines, and what is refused."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, stats

from fingerpost.errors import ConfigError
from fingerpost.experiments import load_experiment

from experiments.carrying import carry_out, results_of  # isort: skip

pytest.importorskip("sklearn", reason="the built-in tables and the baselines are scikit-learn's")

TINY = {"steps": 60, "members": 1}


@pytest.fixture
def own_table(tmp_path):
    generator = np.random.default_rng(0)
    length = np.exp(generator.normal(size=120))
    lines = ["name,length (mm),count", *(f"r{k},{v:.2f},{int(10 * v)}" for k, v in enumerate(length))]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_flow_on_a_users_csv_writes_samples_scores_and_pictures_and_repeats_to_the_bit(tmp_path, own_table):
    runs = [
        carry_out("flow", tmp_path / name, data=str(own_table), drop_text=True, samples=50, **TINY)
        for name in ("first", "second")
    ]
    lines = (tmp_path / "first" / "samples.csv").read_text().splitlines()
    assert lines[0] == "length (mm),count"
    assert len(lines) == 51
    assert all(
        len(line.split(",")[0].split(".")[1]) == 2 and "." not in line.split(",")[1] for line in lines[1:]
    )
    names = {claim.name for claim in runs[0].claims()}
    assert {
        "beats-gaussian",
        "beats-gaussian-mixture",
        "beats-kernel-density",
        "same-law",
        "no-copies",
    } == names
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")


def test_flow_trains_by_the_lab_and_its_estimator_can_be_loaded(tmp_path, own_table):
    from fingerpost.flow import FlowEstimator, read_table

    folder = carry_out(
        "flow", tmp_path / "run", data=str(own_table), columns="count, length (mm)", samples=20, **TINY
    )
    assert {row["stage"] for row in folder.metrics()} == {"fit-member-0"}
    estimator = FlowEstimator.load(tmp_path / "run" / "estimator.safetensors")
    assert estimator.columns_ == ("count", "length (mm)")
    assert np.isfinite(estimator.score(read_table(own_table, columns=["count", "length (mm)"])))


def test_the_labs_loop_and_the_estimators_own_train_the_same_weights(tmp_path):
    from fingerpost.experiments._flow_tables import by_lab
    from fingerpost.flow import FlowEstimator
    from fingerpost.lab import Run

    x = np.random.default_rng(0).normal(size=(80, 2)) ** 3
    settings = {"steps": 60, "evaluate_every": 20, "width": 16, "random_state": 0}
    here = FlowEstimator(**settings).fit(x)
    run = Run.open(tmp_path / "run", experiment="test", config=load_experiment("flow").PRESETS["quick"])
    there = FlowEstimator(**settings).fit(x, train=by_lab(run, "fit"))
    run.close("completed")
    np.testing.assert_allclose(here.score_samples(x), there.score_samples(x), rtol=1e-5, atol=1e-5)


def test_flow_tabular_scores_every_density_on_paired_splits(tmp_path):
    folder = carry_out("flow-tabular", tmp_path / "run", tables=("wine", "diabetes"), splits=2, steps=20)
    claims = {claim.name: claim for claim in folder.claims()}
    assert len(claims) == 4
    assert all(np.isfinite(claim.measured) for claim in claims.values())
    rows = (tmp_path / "run" / "tables" / "nll.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 5


def test_the_diabetes_table_comes_without_its_two_valued_column():
    rows = load_experiment("flow-tabular").rows_of("diabetes")
    assert rows.shape == (442, 9)
    assert min(len(np.unique(column)) for column in rows.T) > 5


# baselines


def test_baselines_are_densities_in_the_tables_units():
    from fingerpost.experiments._flow_baselines import NAMES, fit_baselines

    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(-3, 0.5, 150), generator.normal(2, 1.0, 150)])[:, None] * 20
    grid = np.linspace(-400, 400, 4001)
    models = fit_baselines(x, 0)
    assert tuple(models) == NAMES
    test = np.concatenate([generator.normal(-3, 0.5, 150), generator.normal(2, 1.0, 150)])[:, None] * 20
    for name, (log_density, _) in models.items():
        total = integrate.trapezoid(np.exp(log_density(grid[:, None])), grid)
        assert total == pytest.approx(1.0, abs=0.01), name
    scores = {name: log_density(test).mean() for name, (log_density, _) in models.items()}
    assert scores["Gaussian mixture"] > scores["Gaussian"] + 0.3
    assert scores["kernel density"] > scores["Gaussian"] + 0.3
    assert models["Gaussian mixture"][1].startswith("2 ×")


def test_the_kernel_density_is_scipys_at_a_given_bandwidth(monkeypatch):
    from fingerpost.experiments import _flow_baselines as module
    from fingerpost.flow.estimator_scaling import Scaling

    x = np.random.default_rng(0).normal(size=(60, 2)) * [1, 100]
    monkeypatch.setattr(module.np, "geomspace", lambda *_: [0.4], raising=False)
    log_density, chosen = module._kernel(x, 0)
    columns = Scaling("linear").fit(x)
    if "round" in chosen:
        columns.center, columns.factor = np.zeros(2), np.eye(2)
    z, change = columns.forward(x)
    expected = np.mean([stats.multivariate_normal(center, 0.16 * np.eye(2)).pdf(z[:5]) for center in z], 0)
    np.testing.assert_allclose(np.exp(log_density(x[:5])), expected * np.exp(change[:5]), rtol=1e-8)


# two-sample checks


def test_the_permutation_test_sees_a_difference_and_no_difference():
    from fingerpost.experiments._flow_tables import permutation_test

    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 200, 3))
    assert permutation_test(x, y, 0)[1] > 0.05
    value, p = permutation_test(x, y + 0.5, 0)
    assert value > 0
    assert p < 0.01


def test_the_permutation_tests_statistic_is_the_flow_rooms_mmd():
    import torch

    from fingerpost.experiments._flow_tables import permutation_test
    from fingerpost.flow import mmd

    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 50, 2))
    pooled = np.concatenate([x, y])
    z = torch.from_numpy((pooled - pooled.mean(0)) / pooled.std(0))
    assert permutation_test(x, y, 0, rounds=1)[0] == pytest.approx(mmd(z[:50], z[50:]), rel=0.02, abs=1e-4)


def test_copies_of_training_rows_are_found():
    from fingerpost.experiments._flow_tables import nearest_ratio

    generator = np.random.default_rng(0)
    train, test, fresh = generator.normal(size=(3, 300, 4))
    assert nearest_ratio(train[:100] + 1e-3, test, train) < 0.05
    assert nearest_ratio(fresh, test, train) == pytest.approx(1.0, abs=0.15)


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "absent.csv"}, "there is no file 'absent.csv'"),
        ({"tests": 0.0}, "tests is 0.0"),
        ({"members": 0}, "members is 0"),
        ({"scaling": "log"}, "'power' or 'linear'"),
    ],
)
def test_flow_refuses_settings_that_cannot_work(changes, said):
    module = load_experiment("flow")
    with pytest.raises(ConfigError, match=said):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n" + "1,2\n" * 30, "column 'a' is constant"),
        ("a,b\n1,2\n2,1\n", "the table has 2 rows"),
        ("a,b\n1,x\n", "column 'b' holds 'x' in row 1.*--drop-text"),
        ("a,b\n1,\n", "--drop-missing"),
    ],
)
def test_flow_refuses_a_table_without_a_density_in_one_line(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        carry_out("flow", tmp_path / "run", data=str(path), **TINY)


def test_flow_refuses_a_file_of_another_kind_before_anything_is_loaded(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"")
    module = load_experiment("flow")
    with pytest.raises(ConfigError, match=r"ends in '\.xlsx'"):
        module.check(dataclasses.replace(module.PRESETS["quick"], data=str(tmp_path / "t.xlsx")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tables": ("iris",)}, "no table 'iris'"),
        ({"splits": 1}, "splits is 1"),
        ({"tables": ()}, "tables is empty"),
    ],
)
def test_flow_tabular_refuses_settings_that_cannot_work(changes, said):
    module = load_experiment("flow-tabular")
    with pytest.raises(ConfigError, match=said):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
