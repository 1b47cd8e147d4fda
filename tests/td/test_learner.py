"""TDLearner: limits, passes, step sizes, rows and sequences, scikit-learn's manners, bad input."""

import numpy as np
import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.td import (
    OutcomeSequence,
    RandomWalk,
    SequenceTable,
    TDLearner,
    batch_fixed_point,
    stable_alpha,
    td_updates,
)
from td.sequences import many

from estimator_checks import OF_REGRESSORS  # isort: skip


def rows_of(sequences):
    """The same as rows, outcomes and ids."""
    x = np.concatenate([s.observations.numpy() for s in sequences])
    y = np.concatenate([np.full(len(s.observations), float(s.outcome)) for s in sequences])
    ids = np.concatenate([np.full(len(s.observations), i) for i, s in enumerate(sequences)])
    return x, y, ids


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_without_epochs_it_is_the_limit(lam):
    rows = many(12, 3)
    learner = TDLearner(lam=lam, intercept=False).fit(rows)
    np.testing.assert_allclose(learner.coef_, batch_fixed_point(rows, lam), rtol=1e-12)
    assert learner.intercept_ == 0


def test_at_lambda_one_it_is_least_squares_with_an_intercept():
    rows = many(12, 3)
    x, y, _ = rows_of(rows)
    learner = TDLearner(lam=1.0).fit(rows)
    expected = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    np.testing.assert_allclose(np.append(learner.coef_, learner.intercept_), expected, rtol=1e-9)


def test_many_epochs_come_near_the_limit():
    rows = RandomWalk(5).sample(torch.Generator().manual_seed(0), 50)
    limit = TDLearner(lam=0.3, intercept=False).fit(rows)
    found = TDLearner(lam=0.3, intercept=False, epochs=3000, alpha=0.003).fit(rows)
    np.testing.assert_allclose(found.coef_, limit.coef_, atol=5e-3)


def test_rows_with_ids_are_the_same_as_sequences_even_if_their_rows_are_mixed():
    rows = many(8, 3)
    x, y, ids = rows_of(rows)
    expected = TDLearner(lam=0.5).fit(rows)
    place = np.concatenate([np.arange(len(row.observations)) for row in rows])
    for order in (np.arange(len(x)), np.argsort(place, kind="stable")):  # together, and by time of all
        found = TDLearner(lam=0.5).fit(x[order], y[order], sequences=ids[order].astype(str))
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)


@pytest.mark.parametrize(
    ("traces", "online"),
    [("accumulating", False), ("accumulating", True), ("replacing", False), ("dutch", True)],
)
def test_a_pass_is_the_rule_sequence_by_sequence(traces, online):
    rows = many(6, 2, rewards=True)
    w = torch.zeros(2, dtype=torch.float64)
    for x, z, c in rows:
        settings = {"traces": traces, "online": online, "gamma": 0.9, "rewards": c}
        w = w + td_updates(x, z, w, 0.7, alpha=0.05, **settings).sum(0)
    settings = {
        "lam": 0.7,
        "alpha": 0.05,
        "gamma": 0.9,
        "intercept": False,
        "traces": traces,
        "online": online,
    }
    np.testing.assert_allclose(TDLearner(epochs=1, **settings).fit(rows).coef_, w, rtol=1e-12)
    pieces = TDLearner(**settings)
    for k in range(0, 6, 2):
        assert pieces.partial_fit(rows[k : k + 2]) is pieces
    np.testing.assert_allclose(pieces.coef_, w, rtol=1e-12)


def test_the_automatic_step_is_the_least_that_any_sequence_so_far_asks_for():
    rows = many(4, 2)
    learner = TDLearner(lam=0.5, intercept=False).partial_fit(rows)
    assert learner.alpha_ == pytest.approx(stable_alpha(rows, 0.5))
    large = [OutcomeSequence(10 * x, z) for x, z, _ in rows]
    learner.partial_fit(large)
    assert learner.alpha_ == pytest.approx(stable_alpha(large, 0.5))
    learner.partial_fit(rows)
    assert learner.alpha_ == pytest.approx(stable_alpha(large, 0.5))


def test_fit_forgets_and_partial_fit_does_not():
    first, second = many(5, 2, 1), many(5, 2, 2)
    twice = TDLearner().fit(first).fit(second)
    np.testing.assert_array_equal(twice.coef_, TDLearner().fit(second).coef_)
    learned = TDLearner().fit(first).partial_fit(second)
    assert not np.allclose(learned.coef_, TDLearner().partial_fit(second).coef_)


def test_observations_of_nothing_change_nothing():
    learner = TDLearner(intercept=False).partial_fit([OutcomeSequence(torch.zeros(3, 2), 1.0)])
    np.testing.assert_array_equal(learner.coef_, np.zeros(2))


def test_it_predicts_the_walks_values_and_lower_lambda_is_nearer():
    walk = RandomWalk(5)
    errors = {0.0: [], 1.0: []}
    for seed in range(20):
        rows = walk.sample(torch.Generator().manual_seed(seed), 30)
        for lam, found in errors.items():
            learner = TDLearner(lam=lam, intercept=False).fit(rows)
            found.append(np.square(learner.predict(np.eye(5)) - walk.true_values.numpy()).mean())
    assert np.mean(errors[0.0]) < np.mean(errors[1.0]) < 0.05


def test_a_table_gives_its_names():
    rows = many(5, 2)
    learner = TDLearner().fit(SequenceTable(("a", "b"), tuple("vwxyz"), rows))
    assert list(learner.feature_names_in_) == ["a", "b"]


def test_a_diverging_step_is_an_error_and_not_a_silent_nan():
    rows = many(5, 2)
    with pytest.raises(NumericalError, match=r"diverged at alpha = 100; lower it"):
        TDLearner(alpha=100.0, epochs=200).fit(rows)


X, Y = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lam": 1.2}, "lam is 1.2"),
        ({"gamma": -0.1}, "gamma is -0.1"),
        ({"alpha": 0.0}, "alpha is 0.0; expected a number above 0, or 'auto'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"traces": "dutsch"}, "traces is 'dutsch'"),
        ({"traces": "replacing"}, "give epochs"),
        ({"online": True}, "give epochs"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_fit(settings, said):
    with pytest.raises(InvalidValueError, match=said):
        TDLearner(**settings).fit(X, Y)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "said"),
    [
        ((X,), {}, InvalidValueError, "requires y"),
        (([],), {}, InvalidValueError, "requires y"),
        ((X, Y[:5]), {}, ShapeError, "y has 5 rows and X has 6"),
        ((X, np.c_[Y, Y]), {}, ShapeError, r"y has shape \(6, 2\)"),
        ((X, Y), {"sequences": [1, 2]}, ShapeError, r"sequences have shape \(2,\)"),
        ((X, Y), {"sequences": ["a"] * 6}, InvalidValueError, "sequence 'a' has outcomes from 0 to 5"),
        ((X, np.where(Y == 3, np.nan, Y)), {}, InvalidValueError, "y is NaN .* in 1 entry, first in row 3"),
        ((np.where(X[2, 1] == X, np.nan, X), Y), {}, InvalidValueError, "row 2, column 1"),
        (([(torch.ones(2, 2), float("nan"))],), {}, InvalidValueError, "sequence 0: outcome is nan"),
        (([(torch.ones(0, 2), 1.0)],), {}, ShapeError, "sequence 0: .*empty"),
        ((SequenceTable(("a",), (), []),), {}, InvalidValueError, "sequences is empty"),
        (([["a", "b"]] * 6, Y), {}, InvalidValueError, "no number"),
        (([[{}, 1]] * 6, Y), {}, InvalidTypeError, "no number"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_data_are_refused_and_named(method, arguments, keywords, error, said):
    with pytest.raises(error, match=said):
        getattr(TDLearner(), method)(*arguments, **keywords)


def test_use_before_fit_and_other_columns_are_refused():
    with pytest.raises(InvalidValueError, match="not fitted"):
        TDLearner().predict(X)
    learner = TDLearner().fit(X, Y)
    with pytest.raises(InvalidValueError, match="3 features, but TDLearner is expecting 2"):
        learner.predict(np.zeros((4, 3)))
    with pytest.raises(InvalidValueError, match="3 features, but TDLearner is expecting 2"):
        learner.partial_fit(np.zeros((4, 3)), np.zeros(4))


def test_settings_are_listed_changed_and_shown():
    learner = TDLearner(lam=0.5)
    assert learner.set_params(gamma=0.9) is learner
    assert repr(learner) == "TDLearner(lam=0.5, gamma=0.9)"
    with pytest.raises(InvalidValueError, match="no setting 'lambda'"):
        learner.set_params(**{"lambda": 1})


# scikit-learn

CHECKS = (*OF_REGRESSORS, "check_estimators_partial_fit_n_features")


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_own_check_passes(name):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, name):
        pytest.skip(f"this scikit-learn has no {name}")
    getattr(checks, name)("TDLearner", TDLearner())


def test_clone_pipeline_and_search_take_it():
    base = pytest.importorskip("sklearn.base")
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert base.clone(TDLearner(lam=0.7)).get_params() == TDLearner(lam=0.7).get_params()
    x, y, _ = rows_of(many(30, 3))
    assert np.isfinite(make_pipeline(StandardScaler(), TDLearner()).fit(x, y).score(x, y))
    search = GridSearchCV(TDLearner(), {"lam": [0.0, 1.0]}, cv=2).fit(x, y)
    assert search.best_params_["lam"] in (0.0, 1.0)


def test_the_learner_never_imports_scikit_learn():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from fingerpost.td import TDLearner; "
        "TDLearner().fit(np.eye(3), np.arange(3.0)).predict(np.eye(3)); "
        "assert 'sklearn' not in sys.modules and 'gymnasium' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
