"""The accuracy references: their loader, and rows that are computed again by other routes.

The tables come from integrals of scores, or from closed forms, of one path derivative. Here the same numbers come from
finite differences of a CDF that is written in another way (a series, an incomplete function, error functions), at 100
digits, and from integrals with other nodes where no such CDF is at hand.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from fingerpost.errors import InvalidValueError
from fingerpost.experiments import references
from fingerpost.experiments.references import make

TOLERANCE = mpf("1e-19")
PATHS = [name for name in make.TABLES if name != "entropies_and_moments"]
Row = dict[str, str]


def rows(table: str) -> list[Row]:
    """The lines of a table as they are written."""
    with (references.FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def exact(row: Row, *names: str) -> list[Any]:
    """Inputs of a row, exactly: they are doubles."""
    return [mpf(float(row[name])) for name in names]


def close(written: str, expected: Any, noise: Any = 0) -> bool:
    return abs(mpf(written) - expected) <= TOLERANCE * abs(expected) + noise


# The loader ----------------------------------------------------------------------------------------------


def test_the_loader_needs_neither_torch_nor_mpmath() -> None:
    code = (
        "import sys; from fingerpost.experiments import references; references.load('gamma');"
        "assert not {'torch', 'mpmath', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tables_are_those_that_the_script_makes() -> None:
    assert references.names() == sorted(make.TABLES)
    assert sum(path.stat().st_size for path in references.FOLDER.glob("*.csv")) < 600_000


@pytest.mark.parametrize("table", PATHS)
def test_a_table_has_all_first_and_second_derivatives_in_finite_float64(table: str) -> None:
    loaded = references.load(table)
    assert 70 <= len(loaded) <= 400
    moving = [name for name in loaded.parameters if name != "df" or table == "student_t"]
    pairs = [f"dd_{a}_{b}" for a, b in combinations_with_replacement(moving, 2)]
    expected = [
        *loaded.parameters,
        "value",
        *(f"d_{name}" for name in moving),
        *pairs,
        "log_prob",
        "cdf",
        "sf",
    ]
    assert sorted(loaded.columns) == sorted(expected)
    for name in expected:
        assert loaded[name].dtype == np.float64
        assert np.isfinite(loaded[name]).all() or name in ("low", "high")
    np.testing.assert_allclose(loaded["cdf"] + loaded["sf"], 1, rtol=1e-15)


@pytest.mark.parametrize("table", make.TABLES)
def test_numbers_are_written_with_twenty_one_digits(table: str) -> None:
    given = {*references.load(table).parameters, "value", "family"}
    lengths = []
    for row in rows(table):
        computed = [cell for name, cell in row.items() if name not in given]
        lengths += [len(re.sub(r"^0+|[-.]", "", cell.split("e")[0]).lstrip("0")) for cell in computed]
    assert max(lengths) == make.DIGITS
    inexact = [length for length in lengths if length > 17]  # shorter ones are exact: 0, 1, a double
    assert np.mean(inexact) > 20.5


def test_rows_that_only_float64_holds_are_recognised() -> None:
    gamma, beta = references.load("gamma"), references.load("beta")
    assert not gamma.where(gamma["value"] < 1e-40).fits_float32.any()
    assert not beta.where(beta["value"] == 1 - 1e-12).fits_float32.any()
    assert references.load("truncated_normal").fits_float32.all()
    for table in (gamma, beta):
        held = table.where(table.fits_float32)
        assert 100 < len(held) < len(table)
        for name in (*table.parameters, "value"):
            np.testing.assert_array_equal(held[name].astype(np.float32).astype(np.float64), held[name])


def test_the_tables_span_what_they_promise() -> None:
    spans = {
        ("gamma", "concentration"): (1e-3, 1e5),
        ("von_mises", "concentration"): (1e-3, 1e6),
        ("student_t", "df"): (0.1, 1e6),
        ("beta", "concentration1"): (1e-2, 1e3),
        ("beta", "concentration0"): (1e-2, 1e3),
    }
    for (table, name), span in spans.items():
        column = references.load(table)[name]
        np.testing.assert_allclose((column.min(), column.max()), span, rtol=1e-6)
    chi = references.load("noncentral_chi")
    np.testing.assert_allclose((chi["loc"] / chi["scale"]).max(), 1e6, rtol=1e-6)
    normal = references.load("truncated_normal")
    assert ((normal["low"] - normal["loc"]) / normal["scale"]).max() == 300
    assert ((normal["high"] - normal["loc"]) / normal["scale"]).min() == -300


def test_unknown_tables_are_refused_by_name() -> None:
    with pytest.raises(InvalidValueError, match="did you mean 'gamma'"):
        references.load("gama")
    with pytest.raises(InvalidValueError, match="no table is called"):
        make.make("no such table")


@pytest.mark.parametrize("table", make.TABLES)
def test_the_script_makes_the_rows_that_are_committed(table: str) -> None:
    given = [*references.load(table).parameters]
    given = ["family", *given] if table == "entropies_and_moments" else [*given, "value"]
    written = rows(table)
    for row in written[5 :: len(written) // 3]:
        inputs = [row[n] if n == "family" else float(row[n]) if row[n] else None for n in given]
        assert make.row(table, tuple(inputs)) == row


# Finite differences of other CDFs ------------------------------------------------------------------------


def normal_mass(a: Any, b: Any) -> Any:
    """Φ(b) − Φ(a), a < b."""
    return mp.ncdf(-a) - mp.ncdf(-b) if a > 0 else mp.ncdf(b) - mp.ncdf(a)


def truncated_normal(upper: bool, z: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    ends = [(x - loc) / scale for x in (low, z, high)]
    return normal_mass(*(ends[1:] if upper else ends[:2])) / normal_mass(ends[0], ends[2])


def noncentral_chi(upper: bool, z: Any, loc: Any, scale: Any, k: Any) -> Any:
    """A Poisson mixture of central chi squared distributions."""
    rate, x = (loc / scale) ** 2 / 2, (z / scale) ** 2 / 2
    weight, total, j = mp.exp(-rate), mpf(0), 0
    start, stop = (x, mp.inf) if upper else (0, x)
    tail = mp.gammainc(k / 2, start, stop, regularized=True)
    term = mp.exp(k / 2 * mp.log(x) - x - mp.loggamma(k / 2 + 1))
    while j < rate + 5 or weight > mpf(10) ** -(mp.dps + 5) * total:
        total += weight * tail
        tail += term if upper else -term
        j += 1
        weight, term = weight * rate / j, term * x / (k / 2 + j)
    return total


def von_mises(upper: bool, z: Any, loc: Any, kappa: Any) -> Any:
    """The Fourier series, its I_n(κ)/I_{n−1}(κ) by backward recurrence."""
    angle = z - loc - 2 * mp.pi * mp.nint((z - loc) / (2 * mp.pi))
    total, ratio = mpf(0), mpf(0)
    for order in range(int(kappa) + 3 * mp.dps, 0, -1):
        ratio = 1 / (2 * order / kappa + ratio)
        total = ratio * (mp.sin(order * angle) / order + total)
    total = total / mp.pi + mpf(1) / 2 + angle / (2 * mp.pi)
    return 1 - total if upper else total


def gamma(upper: bool, z: Any, a: Any, rate: Any) -> Any:
    start, stop = (z * rate, mp.inf) if upper else (0, z * rate)
    return mp.gammainc(a, start, stop, regularized=True)


def student_t(upper: bool, z: Any, df: Any, loc: Any, scale: Any) -> Any:
    x = (z - loc) / scale
    return mp.betainc(df / 2, mpf(1) / 2, 0, df / (df + x**2), regularized=True) / 2


def beta(upper: bool, z: Any, a: Any, b: Any) -> Any:
    return mp.betainc(b, a, 0, 1 - z, regularized=True) if upper else mp.betainc(a, b, 0, z, regularized=True)


def mixture_normal(upper: bool, z: Any, *theta: Any) -> Any:
    weights = [mp.exp(x) for x in theta[:3]]
    sign = -1 if upper else 1
    parts = [w * mp.ncdf(sign * (z - m) / s) for w, m, s in zip(weights, theta[3:6], theta[6:])]
    return sum(parts) / sum(weights)


SPOTS: dict[str, tuple[Callable[..., Any], Callable[[Row], bool], int]] = {  # CDF, which rows, how many
    "truncated_normal": (truncated_normal, lambda row: 0 < float(row["cdf"]) < 1, 30),
    "noncentral_chi": (noncentral_chi, lambda row: 0 < float(row["loc"]) < 8.5 * float(row["scale"]), 8),
    "von_mises": (von_mises, lambda row: float(row["concentration"]) <= 60, 8),
    "gamma": (gamma, lambda row: float(row["concentration"]) <= 1000, 10),
    "student_t": (student_t, lambda row: True, 8),
    "beta": (beta, lambda row: True, 8),
    "mixture_normal": (mixture_normal, lambda row: float(row["sf"]) > 1e-13, 4),
}


class Differences:
    """First and second derivatives of the path z(θ; u), by central differences of F(z, θ)."""

    def __init__(self, cdf: Callable[..., Any], point: list[Any], unit: Any) -> None:
        self.cdf, self.point = cdf, point
        relative = mpf(10) ** -(mp.dps // 4)
        self.units = [unit, *(abs(x) or unit for x in point[1:])]
        self.steps = [relative * x for x in self.units]
        self.at = cdf(*point)
        self.known: dict[tuple[tuple[int, int], ...], Any] = {}

    def value(self, *moves: tuple[int, int]) -> Any:
        if moves not in self.known:
            moved = list(self.point)
            for i, sign in moves:
                moved[i] += sign * self.steps[i]
            self.known[moves] = self.cdf(*moved)
        return self.known[moves]

    def first(self, i: int) -> Any:
        return (self.value((i, 1)) - self.value((i, -1))) / (2 * self.steps[i])

    def second(self, i: int, j: int) -> Any:
        if i == j:
            return (self.value((i, 1)) - 2 * self.at + self.value((i, -1))) / self.steps[i] ** 2
        corners = [a * b * self.value((i, a), (j, b)) for a in (1, -1) for b in (1, -1)]
        return sum(corners) / (4 * self.steps[i] * self.steps[j])

    def velocity(self, i: int) -> Any:
        return -self.first(i) / self.first(0)

    def acceleration(self, i: int, j: int) -> Any:
        vi, vj = self.velocity(i), self.velocity(j)
        bent = (
            self.second(i, j) + self.second(0, i) * vj + self.second(0, j) * vi + self.second(0, 0) * vi * vj
        )
        return -bent / self.first(0)

    def noise(self, *order: int) -> Any:
        """What the differences may be off, where the derivative is zero or nearly so."""
        return mpf("1e-30") * self.units[0] / mp.fprod(self.units[i] for i in order)


@pytest.mark.parametrize("table", sorted(SPOTS))
def test_rows_agree_with_differences_of_another_cdf(table: str) -> None:
    cdf, chosen, count = SPOTS[table]
    candidates = [row for row in rows(table) if chosen(row)]
    names = [name for name in references.load(table).parameters if f"d_{name}" in candidates[0]]
    with mp.workdps(100):
        for row in candidates[1 :: len(candidates) // count]:
            upper = float(row["cdf"]) > 0.5
            (z,) = exact(row, "value")
            fixed = exact(row, "df") if table == "noncentral_chi" else []
            unit = min(abs(z), abs(1 - z)) if table == "beta" else abs(z)
            path = Differences(lambda *x: cdf(upper, *x, *fixed), [z, *exact(row, *names)], unit)
            finite = [i for i, name in enumerate(names, 1) if np.isfinite(float(row[name]))]
            assert close(row["sf" if upper else "cdf"], path.at)
            assert close(row["log_prob"], mp.log(abs(path.first(0))), path.noise(0))
            for i in finite:
                assert close(row[f"d_{names[i - 1]}"], path.velocity(i), path.noise(i)), row
            for i, j in combinations_with_replacement(finite[:4], 2):
                assert close(
                    row[f"dd_{names[i - 1]}_{names[j - 1]}"], path.acceleration(i, j), path.noise(i, j)
                ), row


# Where series are too long: integrals of the score --------------------------------------------------------


def score_velocity(log_density: Callable[[Any, Any], Any], z: Any, theta: Any, span: Any, right: bool) -> Any:
    """−F_θ/p from the integral of ∂p/∂θ over the `span` beside z, which holds all but 1e-40 of that side."""
    at, step = log_density(z, theta), mpf(10) ** -15 * theta

    def moved(u: Any) -> Any:
        score = (log_density(u, theta + step) - log_density(u, theta - step)) / (2 * step)
        return mp.exp(log_density(u, theta) - at) * score

    edges = [z + (span if right else -span) * i / 8 for i in range(9)]
    return mp.quad(moved, edges if right else edges[::-1], method="gauss-legendre") * (1 if right else -1)


@pytest.mark.parametrize("ratio", [30, 1e3, 1e6])
def test_the_noncentral_chi_formula_holds_at_any_ratio(ratio: float) -> None:
    """dz/dν = r and dz/dσ = [(z − ν) + ν(1 − r)]/σ, against the score's integral, for df where r is not elementary."""
    table = [row for row in rows("noncentral_chi") if row["df"] in ("2", "2.5")]
    near = [row for row in table if abs(float(row["loc"]) / float(row["scale"]) / ratio - 1) < 1e-6]
    assert len(near) > 8
    with mp.workdps(50):
        for row in near[::8]:
            k, loc, scale, z = exact(row, "df", "loc", "scale", "value")

            def log_density(u: Any, nu: Any, sigma: Any, k: Any = k) -> Any:
                bessel = mp.log(mp.besseli(k / 2 - 1, u * nu / sigma**2))
                return (
                    k / 2 * mp.log(u / nu)
                    + mp.log(nu)
                    - 2 * mp.log(sigma)
                    - (u**2 + nu**2) / (2 * sigma**2)
                    + bessel
                )

            right = float(row["cdf"]) > 0.5
            moved_loc = score_velocity(lambda u, nu: log_density(u, nu, scale), z, loc, 15 * scale, right)
            moved_scale = score_velocity(
                lambda u, sigma: log_density(u, loc, sigma), z, scale, 15 * scale, right
            )
            assert abs(mpf(row["d_loc"]) - moved_loc) < mpf("1e-17") * abs(moved_loc)
            assert abs(mpf(row["d_scale"]) - moved_scale) < mpf("1e-17") * (1 + abs(moved_scale))


def test_gamma_and_von_mises_rows_hold_at_great_concentrations() -> None:
    with mp.workdps(60):
        for row in [row for row in rows("gamma") if float(row["concentration"]) >= 1e4][3::7]:
            a, rate, z = exact(row, "concentration", "rate", "value")
            x, right = z * rate, float(row["cdf"]) > 0.5
            v = score_velocity(
                lambda u, a: (a - 1) * mp.log(u) - u - mp.loggamma(a), x, a, 16 * mp.sqrt(a), right
            )
            assert abs(mpf(row["d_concentration"]) - v / rate) < mpf("1e-17") * abs(v / rate)
        for row in [row for row in rows("von_mises") if float(row["concentration"]) >= 1e4][3::9]:
            loc, kappa, z = exact(row, "loc", "concentration", "value")
            right, span = z > loc, min(16 / mp.sqrt(kappa), mp.pi - abs(z - loc))
            v = score_velocity(
                lambda u, kappa: kappa * mp.cos(u) - mp.log(mp.besseli(0, kappa)), z - loc, kappa, span, right
            )
            assert abs(mpf(row["d_concentration"]) - v) < mpf("1e-17") * abs(v)


# Moments and entropies -----------------------------------------------------------------------------------


def moments(log_density: Callable[[Any], Any], edges: list[Any]) -> tuple[Any, Any, Any]:
    """Mean, variance and entropy of a density that may lack its constant."""

    def average(f: Callable[[Any, Any], Any]) -> Any:
        return mp.quad(lambda u: mp.exp(log_density(u)) * f(u, log_density(u)), edges)

    mass = average(lambda u, logarithm: mpf(1))
    mean = average(lambda u, logarithm: u) / mass
    variance = average(lambda u, logarithm: (u - mean) ** 2) / mass
    return mean, variance, mp.log(mass) - average(lambda u, logarithm: logarithm) / mass


def assert_moments(row: Row, names: tuple[str, ...], found: tuple[Any, ...], scale: Any) -> None:
    """Holds the mean, in units of the scale, the variance and the entropy to 17 digits."""
    mean, variance, entropy = found
    expected = {"mean": scale * mean, "variance": scale**2 * variance, "entropy": entropy + mp.log(scale)}
    for name in names:
        assert abs(mpf(row[name]) - expected[name]) <= mpf("1e-17") * abs(expected[name]), (name, row)


def family(name: str) -> list[Row]:
    return [row for row in rows("entropies_and_moments") if row["family"] == name]


def test_truncated_normal_moments_are_those_of_the_density() -> None:
    with mp.workdps(28):
        for row in [row for row in family("truncated_normal") if row["high"] != "inf"][2::6]:
            loc, scale, low, high = exact(row, "loc", "scale", "low", "high")
            alpha, beta = max((low - loc) / scale, mpf(-40)), (high - loc) / scale
            if beta < 0:  # an open lower tail: from its edge as far as it weighs
                alpha = max((low - loc) / scale, beta - 100 / max(1, -beta))
            peak = min(max(mpf(0), alpha), beta)
            edges = [alpha + (beta - alpha) * i / 8 for i in range(9)]
            mean, *rest = moments(lambda x: (peak**2 - x**2) / 2, edges)
            assert_moments(row, ("mean", "variance", "entropy"), (mean + loc / scale, *rest), scale)


def test_noncentral_chi_moments_are_those_of_the_density() -> None:
    with mp.workdps(28):
        for row in family("noncentral_chi")[1::16]:
            k, loc, scale = exact(row, "df", "loc", "scale")
            ratio = loc / scale

            def log_density(u: Any, k: Any = k, ratio: Any = ratio) -> Any:
                if ratio == 0:
                    return (k - 1) * mp.log(u) - u**2 / 2
                bessel = mp.log(mp.besseli(k / 2 - 1, u * ratio)) - u * ratio
                return k / 2 * mp.log(u) - (u - ratio) ** 2 / 2 + bessel

            low, high = max(mpf(0), ratio - 13), ratio + 14
            edges = [low + (high - low) * i / 3 for i in range(4)]
            assert_moments(row, ("mean", "variance", "entropy"), moments(log_density, edges), scale)


def test_von_mises_circular_variance_and_entropy_are_those_of_the_density() -> None:
    with mp.workdps(28):
        for row in family("von_mises")[1::4]:
            (kappa,) = exact(row, "concentration")
            reach = min(mp.pi, 14 / mp.sqrt(kappa))
            edges = [reach * i / 3 for i in range(-3, 4)]

            def log_density(u: Any, kappa: Any = kappa) -> Any:
                return -2 * kappa * mp.sin(u / 2) ** 2

            _, _, entropy = moments(log_density, edges)
            mass = mp.quad(lambda u: mp.exp(log_density(u)), edges)
            spread = mp.quad(lambda u: 2 * mp.sin(u / 2) ** 2 * mp.exp(log_density(u)), edges) / mass
            assert float(row["mean"]) == float(row["loc"])
            assert_moments(row, ("variance", "entropy"), (mpf(0), spread, entropy), mpf(1))
