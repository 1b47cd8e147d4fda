"""Theory: printed values, exact laws, and means over graphs."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import stats

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal import ImplicitGraph, Item, fire, fire_jointly, join, join_link, link, theory
from fingerpost.neuroidal.theory import Circuit

N, DEGREE, R, K_A = 20_000, 200, 800, 10
K_M = 2 * K_A


@pytest.mark.parametrize(
    ("n", "degree", "k", "two", "one"),
    [
        (100_000, 512, 16, 2338, 2134),
        (1_000_000, 8192, 16, 1165, 1065),
        (1_000_000, 8192, 64, 6491, 6219),
    ],
)
def test_item_sizes_are_those_that_valiant_printed(n, degree, k, two, one):
    assert [theory.solve_r(n, degree, k, steps) for steps in (2, 1)] == [two, one]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_join_keeps_the_size_that_solves_its_equation(steps):
    r = theory.solve_r(1_000_000, 8192, 16, steps)
    made = theory.size_map(1_000_000, 8192, r, r, 16, steps=steps, overlap=False)
    assert made == pytest.approx(r, rel=0.01)
    smaller = theory.size_map(1_000_000, 8192, r - 50, r - 50, 16, steps=steps, overlap=False)
    assert smaller < r - 50


@pytest.mark.parametrize(
    ("r", "p", "k"), [(2134, 0.00512, 32), (50, 0.01, 40), (1e6, 1e-4, 300), (3.5, 0.2, 2)]
)
def test_tails_are_right_to_twelve_digits_however_far(r, p, k):
    with mpmath.workdps(40):
        exact = mpmath.betainc(k, mpmath.mpf(r) - k + 1, 0, mpmath.mpf(p), regularized=True)
    assert float(theory.binomial_tail(r, p, k) / exact) == pytest.approx(1, abs=1e-11)


def test_tails_are_those_of_the_binomial_law():
    k = np.arange(-1, 13)
    np.testing.assert_allclose(theory.binomial_tail(11, 0.3, k), stats.binom.sf(k - 1, 11, 0.3), rtol=1e-12)


def test_a_joint_tail_is_the_sum_over_what_is_shared():
    a, b, shared, p, k = 30, 40, 12, 0.2, 7
    c = np.arange(shared + 1)
    direct = (
        stats.binom.pmf(c, shared, p)
        * stats.binom.sf(k - c - 1, a - shared, p)
        * stats.binom.sf(k - c - 1, b - shared, p)
    ).sum()
    assert theory.joint_tail(a, b, shared, p, k) == pytest.approx(direct, rel=1e-12)


def means(measure, graphs=12):
    """Mean and standard error of a measure over graphs of their own."""
    found = np.array(
        [measure(ImplicitGraph(N, DEGREE, seed), np.random.default_rng(seed)) for seed in range(graphs)]
    )
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(graphs)


def draw(generator, count, r=R):
    return [Item.random(N, r, generator) for _ in range(count)]


def assert_near(found, expected, allowed=0.0):
    """Within four standard errors, plus what an approximation is allowed."""
    mean, error = found
    assert (np.abs(mean - np.asarray(expected)) <= 4 * error + allowed).all(), (mean, error, expected)


def test_sizes_of_joins_are_those_expected():
    scales = np.array([0.9, 1.0, 1.1])

    def sizes(graph, generator):
        made = []
        for scale in scales:
            a, b = draw(generator, 2, round(scale * R))
            made += [len(join(graph, a, b, k=K_A)), len(join(graph, a, b, k=K_A, steps=2))]
        return made

    r = np.round(scales * R)
    one = theory.size_map(N, DEGREE, r, r, K_A)
    two = theory.size_map(N, DEGREE, r, r, K_A, steps=2)
    assert_near(means(sizes), np.stack([one, two], 1).ravel())


def test_two_steps_make_more_than_independent_counts_do_since_neurons_are_shared():
    with_shared = theory.size_map(N, DEGREE, R, R, K_A, steps=2)
    assert with_shared > theory.size_map(N, DEGREE, R, R, K_A, steps=2, overlap=False)


def test_what_fires_of_a_join_for_parts_of_its_items_is_that_expected():
    shares = [(1.0, 1.0), (0.9, 0.9), (1.0, 0.5), (1.0, 0.0)]

    def recalled(graph, generator):
        a, b = draw(generator, 2)
        c = join(graph, a, b, k=K_A)
        cues = [
            np.union1d(a.neurons[: round(x * R)], b.neurons[: round(y * R)]) for x, y in shares
        ]  # items are sorted, but neurons are exchangeable
        return [c.fraction_firing(np.intersect1d(found, c.neurons)) for found in fire(graph, cues, K_M)]

    x, y = np.array(shares).T
    assert_near(means(recalled), theory.recall_curve(N, DEGREE, R, R, x, y, K_M))


@pytest.mark.parametrize("form", theory.FORMS)
def test_transfer_curves_and_interference_are_those_of_graphs(form):
    circuit = Circuit(form, K_M - 2, K_A if form != "link" else 9)
    fractions = np.array([1.0, 0.9, 0.8])

    def fired(graph, generator):
        a, b, c, other, another = draw(generator, 5)
        if form == "link":
            memory = link(graph, a | b, c, circuit.k_a, relay=False)
        else:
            memory = join_link(graph, a, b, c, k_m=circuit.k_m, k_a=circuit.k_a, relay=form == "join-link")
        cues = [np.union1d(a.neurons[: round(x * R)], b.neurons[: round(x * R)]) for x in fractions] + [
            a,
            a | other,
            other | another,
        ]
        return [c.fraction_firing(memory.fire(cue)) for cue in cues]

    expected = [
        *theory.transfer_curve(N, DEGREE, fractions * R, fractions * R, circuit),
        *(theory.interference(N, DEGREE, R, circuit, kind) for kind in ("A", "A and D", "D and E")),
    ]
    assert_near(means(fired), expected, allowed=0.02)


def test_a_link_fires_a_neuron_with_the_printed_probability():
    def fired(graph, generator):
        a, b = draw(generator, 2, 300)
        return b.fraction_firing(link(graph, a, b, 7).fire(a))

    expected = theory.link_probability(N, DEGREE, 300, 7)
    assert 0.05 < expected < 0.95
    assert_near(means(fired, 40), expected, allowed=0.01)


def test_neurons_reached_from_both_sets_are_those_expected():
    def both(graph, generator):
        a, b = draw(generator, 2)
        shared = Item(np.concatenate([a.neurons[: R // 2], b.neurons[R // 2 :]]), N)
        return len(fire_jointly(graph, [a.neurons, shared.neurons], K_A))

    sharing = N * theory.joint_tail(R, R - R * R / 4 / N, R / 2 + R * R / 4 / N, DEGREE / N, K_A)
    assert_near(means(both), sharing, allowed=0.02 * float(sharing))


def test_noise_margins_of_a_curve_whose_margins_are_known():
    x = np.linspace(0, 1, 20_001)
    curve = 3 * x**2 - 2 * x**3  # slope 1 at ½ ± √(1/12)
    turn = 0.5 - np.sqrt(1 / 12)
    expected = turn - (3 * turn**2 - 2 * turn**3)
    assert theory.noise_margin(x, curve) == pytest.approx((expected, expected), abs=1e-7)
    assert theory.noise_margin(x, x**2) == pytest.approx((0.25, 0.0))
    assert theory.noise_margin(x, x) == (0.0, 0.0)


def test_conditions_say_what_holds():
    found = {one.name: one for one in theory.conditions(100_000, 512, 16)}
    assert not found["stability"].holds
    assert found["size"].holds
    assert found["link"].holds
    assert found["stability"].value > 10
    off = {one.name: one for one in theory.conditions(100_000, 512, 16, r=2000, steps=1)}
    assert not off["size"].holds
    assert off["size"].value == pytest.approx(theory.size_map(100_000, 512, 2000, 2000, 16) / 2000)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: theory.solve_r(100, 100, 5), InvalidValueError, "below n = 100"),
        (lambda: theory.solve_r(100, 10, 11), InvalidValueError, "from 1 to the degree"),
        (lambda: theory.solve_r(1000, 20, 20), InvalidValueError, "no size of items"),
        (lambda: theory.solve_r(1000, 20, 2, 3), InvalidValueError, "takes 1 or 2"),
        (lambda: theory.size_map(100, 10, 5, 5, 2, steps=2, k_m=3), InvalidValueError, "with steps=2"),
        (lambda: theory.recall_curve(100, 10, 9, 9, 1.5, 1, 4), InvalidValueError, "shares of an item"),
        (lambda: theory.transfer_curve(100, 10, 9, 9, ("join", 4, 2)), InvalidValueError, "via-join"),
        (lambda: theory.transfer_curve(100, 10, 9, 9, ("link", 0, 0)), InvalidValueError, "at least 1"),
        (lambda: theory.transfer_curve(100, 10, 9, 9, "link"), InvalidTypeError, "Circuit"),
        (lambda: theory.interference(100, 10, 9, ("link", 0, 2), "B"), InvalidValueError, "'A and D'"),
        (lambda: theory.noise_margin([0, 1], [0, 1, 2]), ShapeError, r"\(2,\) and \(3,\)"),
        (lambda: theory.noise_margin([0, 0], [0, 1]), InvalidValueError, "must increase"),
        (lambda: theory.noise_margin([0, 1], [0, np.nan]), InvalidValueError, "NaN"),
    ],
)
def test_wrong_numbers_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("form", theory.FORMS)
def test_a_circuit_trained_as_it_is_recalled_is_the_general_case(form):
    circuit = Circuit(form, K_M - 3, K_A)
    alone = theory.transfer_curve(N, DEGREE, R, R, circuit)
    general = theory.transfer_curve(N, DEGREE, R, R, circuit, trained=circuit, items=(R, R))
    assert alone == pytest.approx(general, rel=1e-12)
