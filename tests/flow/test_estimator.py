"""FlowEstimator: a density in the table's units, repeatable, saved and loaded, scikit-learn's manners."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError
from fingerpost.flow import FlowEstimator, NumericTable
from fingerpost.flow.estimator_scaling import (
    Scaling,
    inverse_yeo_johnson,
    log_slope,
    resolutions,
    shrunk_covariance,
    yeo_johnson,
)

from estimator_checks import OF_ESTIMATORS  # isort: skip

FAST = {"steps": 40, "width": 16, "depth": 1, "evaluate_every": 20, "random_state": 0}


def skewed(n=300, seed=0):
    """Two dependent columns in unequal units, one of them long-tailed."""
    generator = np.random.default_rng(seed)
    a = generator.normal(size=n)
    return np.stack([np.exp(0.6 * a) * 100, 0.01 * (a + 0.5 * generator.normal(size=n))], 1)


# scaling


@pytest.mark.parametrize("power", [0.0, 1e-9, 0.3, 1.0, 1.7, 2.0])
def test_the_power_transform_is_scipys_with_its_inverse_and_slope(power):
    x = np.linspace(-4, 4, 41)
    y = yeo_johnson(x, np.array(power))
    np.testing.assert_allclose(y, stats.yeojohnson(x, power if power != 1e-9 else 0.0), rtol=1e-7)
    np.testing.assert_allclose(inverse_yeo_johnson(y, np.array(power)), x, rtol=1e-9, atol=1e-12)
    step = 1e-6
    slope = (yeo_johnson(x + step, np.array(power)) - yeo_johnson(x - step, np.array(power))) / (2 * step)
    np.testing.assert_allclose(np.exp(log_slope(x, np.array(power))), slope, rtol=1e-6)


@pytest.mark.parametrize("transform", ["power", "linear"])
def test_scaling_whitens_inverts_and_knows_its_jacobian(transform):
    x = skewed()
    scaling = Scaling(transform).fit(x)
    z, change = scaling.forward(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(2), atol=0.1)  # shrunk a little
    np.testing.assert_allclose(scaling.inverse(z), x, rtol=1e-9)
    columns = []
    for k in range(2):
        step = np.zeros(2)
        step[k] = 1e-6 * x[:, k].std()
        columns.append((scaling.forward(x + step)[0] - scaling.forward(x - step)[0]) / (2 * step[k]))
    jacobian = np.stack(columns, 2)
    np.testing.assert_allclose(change, np.linalg.slogdet(jacobian)[1], rtol=1e-6, atol=1e-6)


def test_a_long_tail_becomes_short():
    x = skewed(2000)
    z, _ = Scaling("power").fit(x).forward(x)
    raw, _ = Scaling("linear").fit(x).forward(x)
    assert abs(stats.skew(z[:, 0])) < 0.3 < abs(stats.skew(raw[:, 0]))


def test_the_covariance_is_shrunk_with_few_rows_and_kept_with_many():
    generator = np.random.default_rng(0)
    few = generator.normal(size=(5, 20))
    assert np.linalg.eigvalsh(shrunk_covariance(few - few.mean(0))).min() > 1e-3
    many = generator.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 50_000)
    many -= many.mean(0)
    np.testing.assert_allclose(shrunk_covariance(many), np.cov(many.T, bias=True), atol=1e-3)


def test_resolutions_are_those_of_rounded_columns_alone():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 3))
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] = np.round(10 * x[:, 2])
    np.testing.assert_allclose(resolutions(x), [0, 0.1, 1.0], rtol=1e-9)


# density


@pytest.fixture(scope="module")
def fitted():
    return FlowEstimator(steps=400, width=32, random_state=0).fit(skewed())


def test_the_density_integrates_to_one_in_the_tables_units():
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(-2, 0.5, 200), generator.normal(3, 1.0, 200)])[:, None] * 50
    estimator = FlowEstimator(steps=200, random_state=0).fit(x)
    grid = np.linspace(-500, 600, 1001)
    density = np.exp(estimator.score_samples(grid[:, None]))
    assert integrate.trapezoid(density, grid) == pytest.approx(1.0, abs=0.01)


def test_two_modes_are_learned_and_beat_a_gaussian_on_rows_held_out():
    generator = np.random.default_rng(0)

    def draw(n):
        return generator.normal(0, 0.4, (n, 2)) + 3 * generator.choice([-1.0, 1.0], (n, 1))

    train, test = draw(800), draw(800)
    estimator = FlowEstimator(steps=500, random_state=0).fit(train)
    gaussian = stats.multivariate_normal(train.mean(0), np.cov(train.T)).logpdf(test).mean()
    assert estimator.score(test) > gaussian + 0.5
    samples = estimator.sample(1000)
    assert (np.abs(samples.sum(1)) < 2).mean() < 0.1  # little between the modes
    assert 0.4 < (samples[:, 0] > 0).mean() < 0.6


def test_other_units_change_the_density_by_their_logarithm_and_nothing_else():
    x = skewed(120)
    scales = np.array([1e3, 1e-4])
    here = FlowEstimator(**FAST).fit(x)
    there = FlowEstimator(**FAST).fit(x * scales)
    expected = here.score_samples(x[:20]) - np.log(scales).sum()
    np.testing.assert_allclose(there.score_samples(x[:20] * scales), expected, atol=2e-3)
    np.testing.assert_allclose(there.sample(5), here.sample(5) * scales, rtol=1e-3)


def test_without_a_step_it_is_the_shrunk_gaussian_of_straightened_columns():
    x = skewed(200)
    estimator = FlowEstimator(**{**FAST, "steps": 1, "learning_rate": 0.0}, scaling="linear").fit(x)
    law = stats.multivariate_normal(x.mean(0), shrunk_covariance(x - x.mean(0)))
    np.testing.assert_allclose(estimator.score_samples(x[:10]), law.logpdf(x[:10]), atol=2e-3)


def test_samples_follow_the_density(fitted):
    """log p of samples of the model has the mean of −entropy: both sides from the model, by samples and by grid."""
    samples = fitted.sample(4000, random_state=1)
    x = skewed()
    np.testing.assert_allclose((samples.mean(0) - x.mean(0)) / x.std(0), 0, atol=0.25)
    low, high = np.quantile(samples, [0.001, 0.999], axis=0)
    grid = [
        np.linspace(low[k] - 0.2 * (high - low)[k], high[k] + 0.4 * (high - low)[k], 100) for k in range(2)
    ]
    grid[0] = grid[0][grid[0] > 0]
    log_density = fitted.score_samples(np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2))
    cell = (grid[0][1] - grid[0][0]) * (grid[1][1] - grid[1][0])
    assert float(np.exp(log_density).sum() * cell) == pytest.approx(1.0, abs=0.05)
    entropy = -float((np.exp(log_density) * log_density).sum() * cell)
    assert -fitted.score(samples) == pytest.approx(entropy, abs=0.15)


def test_early_stopping_keeps_the_best_weights_and_the_start_counts():
    x = np.random.default_rng(0).normal(size=(40, 6))
    estimator = FlowEstimator(
        steps=600, patience=3, evaluate_every=50, random_state=0, learning_rate=0.05
    ).fit(x)
    assert estimator.history_[-1]["step"] < 600
    assert estimator.score(x) == pytest.approx(
        FlowEstimator(**{**FAST, "steps": 1, "learning_rate": 0.0}).fit(x).score(x), abs=0.5
    )


def test_members_hold_out_rows_of_their_own():
    estimator = FlowEstimator(members=3, validation_fraction=0.25)
    held = [set(estimator._held_out(k, np.arange(100))) for k in range(3)]
    assert [len(h) for h in held] == [25] * 3
    assert not held[0] & held[1] | held[1] & held[2]


@pytest.mark.parametrize(
    "changes", [{"members": 2}, {"coupling": "exact-ot"}, {"dropout": 0.2, "noise": 0.1}]
)
def test_every_setting_fits_samples_and_scores(changes):
    estimator = FlowEstimator(**{**FAST, **changes}).fit(skewed(80))
    assert np.isfinite(estimator.score(skewed(20, 1)))
    assert estimator.sample(3).shape == (3, 2)


def test_a_rounded_column_has_a_bounded_density_if_it_is_spread_over_its_resolution():
    x = np.random.default_rng(0).integers(0, 4, (400, 1)).astype(float)
    spread = FlowEstimator(steps=300, random_state=0).fit(x)
    np.testing.assert_allclose(spread.resolutions_, [1.0])
    assert np.exp(spread.score_samples(x)).max() < 0.5  # 4 values on an interval of length 4: about 0.25


# repeatable


def test_a_fit_repeats_to_the_bit_and_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    x = skewed(100)
    first, second = (FlowEstimator(**{**FAST, "dropout": 0.1}).fit(x) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(x), second.score_samples(x))
    np.testing.assert_array_equal(first.sample(4), second.sample(4))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert not np.array_equal(first.sample(4), FlowEstimator(**{**FAST, "random_state": 1}).fit(x).sample(4))
    assert not np.array_equal(first.sample(4, random_state=1), first.sample(4, random_state=2))


def test_a_saved_estimator_is_the_same_when_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "e.safetensors")
    again = FlowEstimator.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(again.sample(3), fitted.sample(3))
    np.testing.assert_array_equal(again.score_samples(skewed(5)), fitted.score_samples(skewed(5)))
    assert again.get_params() == fitted.get_params()
    assert (again.columns_, again.history_) == (fitted.columns_, fitted.history_)


def test_what_is_no_saved_estimator_is_refused(tmp_path):
    (tmp_path / "e.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(InvalidValueError, match="cannot be read"):
        FlowEstimator.load(tmp_path / "e.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidValueError, match="no FlowEstimator"):
        FlowEstimator.load(tmp_path / "other.safetensors")


# bad input

X = skewed(30)
BAD = [
    (X[:1], InvalidValueError, r"n_samples=1.*single row"),
    (X[:0], InvalidValueError, "n_samples=0"),
    (X[:, 0], InvalidValueError, "Expected 2D array"),
    (np.where(np.arange(30)[:, None] == [[7, -1]], np.nan, X), InvalidValueError, "row 7, column 'x1'"),
    (np.where(np.arange(30)[:, None] == [[-1, 4]], np.inf, X), InvalidValueError, "row 4, column 'x2'"),
    (np.concatenate([X, np.full((30, 1), 3.0)], 1), InvalidValueError, "column 'x3' is constant .*has 3"),
    (np.concatenate([X, X[:, :1] - 2 * X[:, 1:]], 1), InvalidValueError, "linearly dependent"),
    ([["1", "2"], ["3", "red"]], InvalidValueError, "column 'x2' holds 'red' in row 1"),
    ([[1, {}], [2, 3]], InvalidTypeError, "column 'x2' holds '{}' in row 0"),
    (X + 1j, InvalidValueError, "complex"),
    (np.zeros((5, 0)), InvalidValueError, r"0 feature\(s\)"),
]


@pytest.mark.parametrize(("x", "error", "said"), BAD)
def test_a_table_without_a_density_is_refused_by_column_and_row(x, error, said):
    with pytest.raises(error, match=said):
        FlowEstimator(**FAST).fit(x)


def test_a_named_table_is_refused_by_its_own_names():
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(InvalidValueError, match="row 3, column 'height'"):
        FlowEstimator(**FAST).fit(NumericTable(("width", "height"), bad))


SETTINGS = [
    ({"depth": 0}, "depth is 0"),
    ({"dropout": 1.0}, r"dropout is 1.0.*\[0, 1\)"),
    ({"ema": "much"}, "ema is 'much'"),
    ({"width": 0}, "width is 0"),
    ({"scaling": "pwer"}, "did you mean 'power'"),
    ({"coupling": "exact"}, "did you mean 'exact-ot'"),
]


@pytest.mark.parametrize(("changes", "said"), SETTINGS)
def test_a_setting_out_of_range_is_refused_at_fit(changes, said):
    with pytest.raises(InvalidValueError, match=said):
        FlowEstimator(**{**FAST, **changes}).fit(X)


def test_use_before_fit_and_other_columns_are_refused(fitted):
    with pytest.raises(InvalidValueError, match="not fitted"):
        FlowEstimator().sample()
    with pytest.raises(InvalidValueError, match="n_samples is 0"):
        fitted.sample(0)
    with pytest.raises(InvalidValueError, match="3 features, but FlowEstimator is expecting 2"):
        fitted.score_samples(np.zeros((4, 3)))
    named = FlowEstimator(**FAST).fit(NumericTable(("a", "b"), X))
    with pytest.raises(InvalidValueError, match="feature names should match"):
        named.score_samples(NumericTable(("b", "a"), X))


def test_settings_are_listed_changed_and_shown():
    estimator = FlowEstimator(width=8)
    assert estimator.set_params(depth=3) is estimator
    assert estimator.get_params()["depth"] == 3
    assert repr(estimator) == "FlowEstimator(width=8, depth=3)"
    with pytest.raises(InvalidValueError, match="no setting 'detph'"):
        estimator.set_params(detph=1)


# scikit-learn

CHECKS = (*OF_ESTIMATORS, "check_parameters_default_constructible")


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_own_check_passes(name):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, name):
        pytest.skip(f"this scikit-learn has no {name}")
    if name == "check_parameters_default_constructible":
        getattr(checks, name)("FlowEstimator", FlowEstimator())
        return
    getattr(checks, name)("FlowEstimator", FlowEstimator(**{**FAST, "steps": 5, "evaluate_every": 5}))


def test_clone_pipeline_and_search_take_it():
    base = pytest.importorskip("sklearn.base")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    twin = base.clone(FlowEstimator(**FAST))
    assert twin.get_params() == FlowEstimator(**FAST).get_params()
    pipeline = make_pipeline(StandardScaler(), twin).fit(X)
    assert np.isfinite(pipeline.score(X))
    search = GridSearchCV(FlowEstimator(**{**FAST, "steps": 5}), {"scaling": ["power", "linear"]}, cv=2).fit(
        X
    )
    assert search.best_params_["scaling"] in ("power", "linear")


def test_the_estimator_never_imports_scikit_learn():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from fingerpost.flow import FlowEstimator; "
        "FlowEstimator(steps=2, random_state=0).fit(np.random.default_rng(0).normal(size=(20, 2))).sample(2); "
        "assert 'sklearn' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_rows_density_depends_on_the_rows_beside_it_within_the_solvers_tolerance_alone(fitted):
    x = skewed(20, 2)
    alone = np.concatenate([fitted.score_samples(row[None]) for row in x])
    np.testing.assert_allclose(fitted.score_samples(x), alone, atol=2e-3)


def test_every_error_is_a_fingerpost_error():
    with pytest.raises(FingerpostError):
        FlowEstimator().fit(None)
