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
    assert report.kl.value < 0.12
    assert 0.98 < report.ratio.value < 1.15
    assert 0.8 < report.calibration.value < 1.2


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


def test_several_columns_make_a_stimulus_of_several_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("x\ty\tn1\n1\t2\t3\n4\t5\t6\n")
    table = read_counts(file, stimulus=["x", "y"])
    assert table.stimuli.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert table.neurons == ("n1",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus,a\n1,-2\n", "neuron 'a' in trial 1 is -2"),
        ("stimulus,a\n1,2\n2,0.5\n", "neuron 'a' in trial 2 is 0.5"),
        ("stimulus,a\n1,\n", "neuron 'a' in trial 1 is nan"),
        ("stimulus,a\n,3\n", "stimulus of trial 1 is missing"),
        ("stimulus,a\n1,x\n", "'x' in trial 1, which is no number"),
        ("stimulus,a\n1\n", "trial 1 has 1 cells"),
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
        ({"counts": np.zeros((2, 3))}, "expected the arrays counts and stimuli"),
        ({"counts": np.zeros((2, 3)), "stimuli": np.zeros(3)}, "have shapes"),
        ({"counts": np.array([["a"]]), "stimuli": np.zeros(1)}, "expected numbers"),
        ({"counts": np.zeros((2, 3)), "stimuli": np.zeros(2), "neurons": np.array(["a"])}, "names 1 neurons"),
        ({"counts": np.zeros((0, 3)), "stimuli": np.zeros(0)}, "at least one trial"),
        ({"counts": np.full((1, 1), 1.5), "stimuli": np.zeros(1)}, "in trial 1 is 1.5"),
    ],
)
def test_bad_arrays_are_refused_by_name(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValueError, match=message):
        read_counts(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, message in (("a.mat", "ends in '.mat'"), ("b.npz", "cannot be read by NumPy")):
        (tmp_path / name).write_text("no table")
        with pytest.raises(InvalidValueError, match=message):
            read_counts(tmp_path / name)
    with pytest.raises(InvalidValueError, match="there is no file"):
        read_counts(tmp_path / "c.csv")
