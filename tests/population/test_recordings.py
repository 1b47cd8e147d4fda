"""Counts from files, and kernels learned from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.population import GaussianTuning, PoissonCode, fit_kernel, optimality_report, read_counts
from population.problems import F64, generator, line


def recording(trials: int, seed: int = 0) -> tuple[PoissonCode, torch.Tensor, torch.Tensor]:
    draw = generator(seed)
    code = PoissonCode(GaussianTuning(line(-9, 9, 13), 2.5, baseline=0.05))
    shown = 10 * torch.rand(trials, generator=draw, dtype=F64) - 5
    return code, shown, code.encode(shown, 4.0, draw)


def test_a_learned_kernel_decodes_nearly_as_well_as_the_true_one() -> None:
    code, shown, counts = recording(3000)
    learned = fit_kernel(counts, shown, bins=12, span=(-5.0, 5.0))
    assert learned.penalty in learned.scores
    _, new, seen = recording(1000, seed=1)
    grid = line(-4.95, 4.95, 100)
    report = optimality_report(code.decode(seen, grid, 4.0), learned.decode(seen, grid), new)
    assert report.kl.value < 0.02  # binned multinomial regression is at 0.03
    assert 0.98 < report.ratio.value < 1.15
    assert 0.8 < report.calibration.value < 1.2


def test_few_trials_and_many_bins_do_not_flatten_the_kernel() -> None:
    code, shown, counts = recording(400)
    learned = fit_kernel(counts, shown, bins=40, span=(-5.0, 5.0))
    _, new, seen = recording(1000, seed=1)
    grid = line(-4.95, 4.95, 100)
    report = optimality_report(code.decode(seen, grid, 4.0), learned.decode(seen, grid), new)
    assert report.kl.value < 0.1
    assert 0.75 < report.calibration.value < 1.35


def test_stimuli_with_a_gap_are_bridged() -> None:
    _, shown, counts = recording(1500)
    kept = shown.abs() > 1
    learned = fit_kernel(counts[kept], shown[kept], bins=20, span=(-5.0, 5.0))
    code, new, seen = recording(500, seed=1)
    grid = line(-4.95, 4.95, 100)
    report = optimality_report(code.decode(seen, grid, 4.0), learned.decode(seen, grid), new)
    assert report.ratio.value < 1.2


def test_for_listed_values_the_optimum_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    shown = torch.tensor([-2.0, 0.0, 2.0], dtype=F64).repeat(
        100
    )  # equal shares, which scikit-learn doesn't hold apart
    code, _, _ = recording(1)
    counts = code.encode(shown, 4.0, generator(0))
    learned = fit_kernel(counts, shown, bins="values", penalty=2.0)
    x = torch.cat([counts / counts.std(0), torch.ones(300, 1, dtype=F64)], 1)
    model = linear.LogisticRegression(C=0.5, fit_intercept=False, max_iter=5000, tol=1e-8)
    expected = torch.from_numpy(model.fit(x.numpy(), shown.numpy()).coef_)
    stimuli = shown[:3]
    torch.testing.assert_close(learned.kernel(stimuli) * counts.std(0), expected[:, :-1], rtol=0, atol=2e-3)
    torch.testing.assert_close(learned.offset(stimuli), expected[:, -1], rtol=0, atol=2e-3)


def test_a_learned_kernel_on_a_circle_is_periodic() -> None:
    _, shown, counts = recording(800)
    learned = fit_kernel(counts, shown + 5, bins=8, period=10.0, penalty=10.0)
    stimuli = torch.tensor([0.0, 10.0], dtype=F64)
    torch.testing.assert_close(learned.kernel(stimuli)[0], learned.kernel(stimuli)[1])
    assert learned.scores == {}


def test_listed_values_and_two_classes_give_log_odds() -> None:
    draw = generator(2)
    shown = torch.randint(0, 2, (20000,), generator=draw).double() * 3
    rate = torch.where(shown[:, None] > 0, torch.tensor([4.0, 1.0]), torch.tensor([2.0, 2.0])).double()
    learned = fit_kernel(torch.poisson(rate, generator=draw), shown, bins="values", penalty=1.0)
    h = learned.kernel(torch.tensor([0.0, 3.0], dtype=F64))
    expected = torch.tensor([2.0, 0.5], dtype=F64).log()
    torch.testing.assert_close(h[1] - h[0], expected, rtol=0, atol=0.05)
    b = learned.offset(torch.tensor([0.0, 3.0], dtype=F64))
    assert b is not None
    assert abs(float(b[1] - b[0]) - (4 - 5)) < 0.15


def test_silent_neurons_get_no_weight() -> None:
    _, shown, counts = recording(400)
    counts = torch.cat([counts, torch.zeros(400, 1, dtype=F64)], 1)
    assert (
        float(fit_kernel(counts, shown, bins=4, penalty=1.0).kernel(line(-4, 4, 5))[:, -1].abs().max()) == 0
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r, s: fit_kernel(r[:5], s), ShapeError, "counts and stimuli have shapes"),
        (lambda r, s: fit_kernel(r, s * torch.nan), InvalidValueError, "stimuli is NaN"),
        (lambda r, s: fit_kernel(r, 0 * s), InvalidValueError, "at least two are needed"),
        (lambda r, s: fit_kernel(r, s, bins=1), InvalidValueError, "bins is 1"),
        (lambda r, s: fit_kernel(r, s, span=(-1.0, 1.0)), InvalidValueError, "beyond the span"),
        (lambda r, s: fit_kernel(r, s, penalty=-1.0), InvalidValueError, "penalty is -1"),
        (lambda r, s: fit_kernel(r, s, penalty="some"), InvalidValueError, "penalty is 'some'"),
    ],
)
def test_bad_recordings_are_refused_by_name(change: object, error: type[Exception], message: str) -> None:
    _, shown, counts = recording(40)
    with pytest.raises(error, match=message):
        change(counts, shown)  # pyright: ignore[reportCallIssue]


def test_text_and_arrays_hold_the_same(tmp_path: Path) -> None:
    counts, stimuli = np.array([[3, 0], [1, 2]]), np.array([0.5, -2.0])
    text = tmp_path / "a.csv"
    text.write_text("trial;stimulus;a;b\n1;0.5;3;0\n\n2;-2;1;2\n")
    np.savez(tmp_path / "b.npz", counts=counts, stimuli=stimuli, neurons=np.array(["a", "b"]))
    for path in (text, tmp_path / "b.npz"):
        table = read_counts(path)
        assert table.neurons == ("a", "b")
        assert table.counts.tolist() == counts.tolist()
        assert table.stimuli.tolist() == stimuli.tolist()
        assert len(table) == 2
    assert read_counts(text, neurons=["b"]).counts.tolist() == [[0.0], [2.0]]


def test_either_name_of_the_stimulus_is_taken_and_another_if_it_is_given(tmp_path: Path) -> None:
    for name in ("stimulus", "stimuli"):
        np.savez(tmp_path / "a.npz", counts=np.eye(2), **{name: np.arange(2.0)})
        (tmp_path / "a.csv").write_text(f"{name},a,b\n0,1,0\n1,0,1\n")
        for suffix in ("npz", "csv"):
            assert read_counts(tmp_path / f"a.{suffix}").stimuli.tolist() == [0.0, 1.0]
    assert read_counts(tmp_path / "a.csv", stimulus="a").neurons == ("stimuli", "b")


def test_a_cut_off_archive_and_a_bare_array_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, counts=np.eye(30), stimuli=np.arange(30.0))
    file.write_bytes(file.read_bytes()[:-200])
    bare = tmp_path / "b.npz"
    with open(bare, "wb") as stream:
        np.save(stream, np.eye(3))
    for path in (file, bare):
        with pytest.raises(InvalidValueError, match=r"cannot be read as an \.npz archive") as caught:
            read_counts(path)
        assert "\n" not in str(caught.value)


def test_several_columns_make_a_stimulus_of_several_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("x\ty\tn1\n1\t2\t3\n4\t5\t6\n")
    table = read_counts(file, stimulus=["x", "y"])
    assert table.stimuli.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert table.neurons == ("n1",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus,a\n1,-2\n", "neuron 'a' in trial 1 is -2, which is negative"),
        ("stimulus,a\n1,2\n2,0.5\n", "neuron 'a' in trial 2 is 0.5, which is no whole number.*not rates"),
        ("stimulus,a\n1,\n", "neuron 'a' in trial 1 is missing"),
        ("stimulus,a\n1,inf\n", "neuron 'a' in trial 1 is infinite"),
        ("stimulus,a\n,3\n", "stimulus of trial 1 is missing"),
        ("stimulus,a\n1,x\n", "'x' in trial 1, which is no number"),
        ("stimulus,a\n1\n", "trial 1 has 1 cell and the header 2"),
        ("stimulus,a\n", "no rows below a header"),
        ("stimulus,a,a\n1,2,3\n", "two columns called 'a'"),
        ("stimuls,a\n1,2\n", "no column 'stimulus'.*did you mean 'stimuls'"),
        ("stimulus\n1\n", "no column of counts"),
    ],
)
def test_bad_text_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(InvalidValueError, match=message):
        read_counts(file)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"counts": np.zeros((2, 3))}, r"holds counts; expected the arrays counts \(T, N\) and stimuli"),
        ({"counts": np.zeros((2, 3)), "stimuli": np.zeros(3)}, "have shapes"),
        ({"counts": np.array([["a"]]), "stimuli": np.zeros(1)}, "expected numbers"),
        (
            {"counts": np.zeros((2, 3)), "stimuli": np.zeros(2), "neurons": np.array(["a"])},
            "names 1 neuron and",
        ),
        ({"counts": np.zeros((0, 3)), "stimuli": np.zeros(0)}, "at least one trial"),
        ({"counts": np.full((1, 1), 1.5), "stimuli": np.zeros(1)}, "in trial 1 is 1.5"),
    ],
)
def test_bad_arrays_are_refused_by_name(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValueError, match=message):
        read_counts(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, message in (("a.mat", "ends in '.mat'"), ("b.npz", "cannot be read as an .npz archive")):
        (tmp_path / name).write_text("no table")
        with pytest.raises(InvalidValueError, match=message):
            read_counts(tmp_path / name)
    with pytest.raises(InvalidValueError, match="there is no file"):
        read_counts(tmp_path / "c.csv")
