"""Theory of recall: other thresholds than in training, noise, two steps, and many memories in one graph."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal import ImplicitGraph, Item, fire_jointly, join, join_link, link, theory
from fingerpost.neuroidal.theory import Circuit

N, DEGREE, R, K_A = 20_000, 200, 800, 10
K_M = 2 * K_A
GRAPHS = 12


def means(measure, graphs=GRAPHS):
    """Mean and standard error of a measure over graphs of their own."""
    found = np.array(
        [measure(ImplicitGraph(N, DEGREE, 50 + seed), np.random.default_rng(seed)) for seed in range(graphs)]
    )
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(graphs)


def near(found, expected, allowed=0.0):
    """Whether the mean is within four standard errors, plus what an approximation is allowed."""
    mean, error = found
    assert (np.abs(mean - np.asarray(expected)) <= 4 * error + allowed).all(), (mean, error, expected)


def draw(generator, count, r=R):
    return [Item.random(N, r, generator) for _ in range(count)]


def part(item, share):
    return item.neurons[: round(share * len(item))]


SHARES = [(1.0, 1.0, 20), (0.9, 0.9, 17), (0.8, 1.0, 15), (1.0, 0.0, 14)]


@pytest.mark.parametrize("noise", [0, 200])
def test_a_join_recalled_at_a_lower_threshold_and_in_noise_is_that_expected(noise):
    def recalled(graph, generator):
        a, b = draw(generator, 2)
        c = join(graph, a, b, k=K_A)
        other = np.setdiff1d(np.arange(N), (a | b).neurons)[:noise]
        found = []
        for x, y, k in SHARES:
            cue = np.concatenate([part(a, x), part(b, y), other])
            fired = join(graph, Item(cue, N), Item([], N), k=K_A, k_m=k)
            found.append(c.fraction_firing(fired))
        return found

    expected = [theory.recall_curve(N, DEGREE, R, R, x, y, K_M, recall=k, noise=noise) for x, y, k in SHARES]
    assert any(0.05 < value < 0.95 for value in expected)
    near(means(recalled), expected)


@pytest.mark.parametrize("recall", [K_A, K_A - 2])
def test_a_join_of_two_steps_recalled_by_parts_is_that_expected(recall):
    shares = [(1.0, 1.0), (0.9, 0.9), (1.0, 0.8), (0.7, 0.9)]

    def recalled(graph, generator):
        a, b = draw(generator, 2, 900)
        c = join(graph, a, b, k=K_A, steps=2)
        groups = [
            [generator.permutation(a.neurons)[: round(900 * x)], generator.permutation(b.neurons)[: round(900 * y)]]
            for x, y in shares
        ]  # fmt: skip
        return [c.fraction_firing(np.asarray(found)) for found in fire_jointly(graph, groups, recall)]

    x, y = np.array(shares).T
    expected = theory.recall_curve(N, DEGREE, 900, 900, x, y, K_A, recall=recall, steps=2)
    near(means(recalled), expected)


def test_a_join_of_two_steps_recalled_alike_is_nearly_the_ratio_of_expected_sizes():
    x = np.array([0.7, 0.9, 1.0])
    sizes = theory.size_map(N, DEGREE, R * x, R * x, K_A, steps=2)
    curve = theory.recall_curve(N, DEGREE, R, R, x, x, K_A, steps=2)
    # the curve has each shared neuron fire by chance, the sizes have x² of them fire for sure
    np.testing.assert_allclose(curve, sizes / sizes[-1], rtol=2e-3)
    assert curve[-1] == pytest.approx(1, abs=1e-12)


def test_in_one_step_what_recall_adds_is_what_the_parts_have_inputs_for():
    x = np.linspace(0, 1, 11)
    union = theory.union_size(N, R * x, R * x)
    ratio = theory.binomial_tail(union, DEGREE / N, K_M) / theory.binomial_tail(union[-1], DEGREE / N, K_M)
    np.testing.assert_allclose(theory.recall_curve(N, DEGREE, R, R, x, x, K_M), ratio, rtol=1e-12)
    assert theory.recall_curve(N, DEGREE, R, R, 1, 1, K_M, recall=K_M - 4) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 16])
@pytest.mark.parametrize("p", [0.0, 1e-300, 1e-40, 1e-26, 2e-25, 1e-24, 1e-10, 1e-4, 1.0])
def test_tails_of_rare_synapses_are_right(p, k):
    with mpmath.workdps(40):
        exact = float(mpmath.betainc(k, 100_000 - k + 1, 0, mpmath.mpf(p), regularized=True))
    found = theory.binomial_tail([100_000, 0, 5], p, [k, k, 0])
    assert found[0] == pytest.approx(exact, rel=1e-10, abs=1e-300)
    assert found[1:].tolist() == [0, 1]
    assert theory.binomial_tail(1e-20, 0.5, 1) == 0  # r − k + 1 is 0 in float64


@pytest.mark.parametrize("form", theory.FORMS)
def test_without_noise_and_with_the_thresholds_of_training_both_curves_are_one(form):
    circuit, x = Circuit(form, K_M - 2, K_A), np.linspace(0.1, 1, 10)
    plain = theory.transfer_curve(N, DEGREE, R * x, R * x, circuit)
    options = {"trained": circuit, "items": (R, R)}
    np.testing.assert_allclose(
        theory.transfer_curve(N, DEGREE, R * x, R * x, circuit, **options), plain, atol=2e-3
    )


@pytest.mark.parametrize(("k_m", "k_a"), [(32, 16), (32, 15)])
@pytest.mark.parametrize("kind", ["A and D", "D and E"])
def test_interference_is_averaged_over_the_sizes_of_both_joins(kind, k_m, k_a):
    """By drawing the numbers of neurons in both JOINs, and in each alone, where quadrature takes nodes of them."""
    n, degree, r, draws = 100_000, 512, 2134, 20_000
    p, pair = degree / n, float(theory.union_size(n, r, r))
    shared = r + r * r / n * (1 - r / n) if kind == "A and D" else pair * pair / n
    whole, common = (
        theory.binomial_tail(pair, p, k_m),
        theory.joint_tail(pair, pair, shared, p, k_m),
    )
    generator = np.random.default_rng(0)
    both, first, second = generator.multinomial(
        n, [common, whole - common, whole - common, 1 - 2 * whole + common], draws
    ).T[:3]
    relays = theory.joint_tail(both + first, both + second, both, p, k_a)
    fires = theory.binomial_tail(n, p * relays, k_a)
    expected = theory.interference(n, degree, r, ("join-link", k_m, k_a), kind)
    assert abs(fires.mean() - expected) < 4 * fires.std() / np.sqrt(draws)


CASES = [
    ("join-link", (19, 11), (18, 10)),
    ("join-link", (19, 11), (19, 11)),
    ("via-join", (18, 10), (17, 8)),
    ("via-join", (18, 10), (18, 10)),
]


@pytest.mark.parametrize("noise", [0, 150])
@pytest.mark.parametrize(("form", "trained", "recall"), CASES)
def test_a_circuit_recalled_at_lower_thresholds_and_in_noise_fires_what_is_expected(
    form, trained, recall, noise
):
    shares = [(1.0, 1.0), (0.85, 0.85), (0.7, 1.0)]

    def fired(graph, generator):
        a, b, c = draw(generator, 3)
        memory = join_link(graph, a, b, c, k_m=trained[0], k_a=trained[1], relay=form == "join-link")
        other = np.setdiff1d(np.arange(N), (a | b).neurons)[:noise]
        cues = [np.concatenate([part(a, x), part(b, y), other]) for x, y in shares]
        return [c.fraction_firing(memory.fire(cue, k_m=recall[0], k_a=recall[1])) for cue in cues]

    x, y = R * np.array(shares).T
    options = {"trained": Circuit(form, *trained), "items": (R, R), "noise": noise}
    expected = theory.transfer_curve(N, DEGREE, x, y, Circuit(form, *recall), **options)
    near(means(fired), expected, allowed=0.02)


def test_lowering_thresholds_gives_an_upper_margin_and_takes_from_the_lower_one():
    x = np.linspace(0, 1, 201)
    curves = [
        theory.transfer_curve(100_000, 512, 2134 * x, 2134 * x, ("join-link", k_m, 16))
        for k_m in (32, 30, 28)
    ]
    lower, upper = zip(*(theory.noise_margin(x, curve) for curve in curves))
    assert lower[0] > lower[1] > lower[2] > 0.8
    assert upper[0] < 0.005 < upper[1] < upper[2]
    whole = theory.recall_curve(100_000, 512, 2134, 2134, x, x, 32)
    assert theory.noise_margin(x, whole).upper == 0
    assert theory.unity_gain(x, whole) is None


def test_points_of_unity_gain_are_where_the_slope_is_one():
    x = np.linspace(0, 1, 20_001)
    found = theory.unity_gain(x, 3 * x**2 - 2 * x**3)
    assert found is not None
    turn = 0.5 - np.sqrt(1 / 12)
    assert (found.low[0], found.high[0]) == pytest.approx((turn, 1 - turn), abs=1e-4)
    margins = theory.noise_margin(x, 3 * x**2 - 2 * x**3)
    assert margins.lower == pytest.approx(found.low[0] - found.low[1], abs=1e-12)
    assert margins.upper == pytest.approx(found.high[1] - found.high[0], abs=1e-12)
    assert theory.unity_gain(x, np.sqrt(x)) is None
    assert theory.unity_gain(x, x) is None


def test_beal_and_knights_size_curve_is_that_of_the_inferred_setting():
    """Printed .26, .53, 1.0, 1.75, 2.86; the last two come out as 1.74 and 2.84."""
    r = 2134 * np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    found = theory.size_map(100_000, 512, r, r, 16) / 2134
    np.testing.assert_allclose(found, [0.26, 0.53, 1.0, 1.75, 2.86], rtol=0.007)


def test_links_in_one_graph_disturb_each_other_as_expected():
    n, degree, r, k, links = 4000, 100, 160, 7, 30

    def wrong(seed):
        graph, generator = ImplicitGraph(n, degree, 70 + seed), np.random.default_rng(seed)
        sources, targets, cues = ([Item.random(n, r, generator) for _ in range(links)] for _ in range(3))
        raised = np.zeros((n, n), bool)
        for one in link(graph, sources, targets, k):
            raised[one.synapses()] = True
        found = []
        for cue in cues[:10]:
            relays = np.flatnonzero(graph.counts(cue.neurons) >= k)
            fires = raised[relays].sum(0) >= k
            found.append([fires[targets[0].neurons].mean(), fires.mean()])
        return np.mean(found, 0)

    found = np.array([wrong(seed) for seed in range(8)])
    expected = [
        float(theory.link_crowding(n, degree, r, k, links, outside=outside)) for outside in (False, True)
    ]
    assert 0.01 < expected[1] < expected[0] < 0.98
    near((found.mean(0), found.std(0, ddof=1) / np.sqrt(8)), expected, allowed=0.02)


def test_one_memory_in_a_crowd_of_one_is_disturbed_as_interference_says():
    for circuit in (("via-join", 27, 16), ("via-join", 28, 16)):
        alone = theory.interference(100_000, 512, 2134, circuit, "D and E")
        assert theory.crowding(100_000, 512, 2134, circuit, 1) == pytest.approx(alone, rel=0.2)


def test_capacity_is_the_last_number_of_memories_within_the_limit():
    circuit = ("via-join", 29, 16)
    most = theory.capacity(100_000, 512, 2134, circuit, 0.2)
    shares = theory.crowding(100_000, 512, 2134, circuit, [most, most + 1])
    assert shares[0] <= 0.2 < shares[1]
    assert theory.capacity(100_000, 512, 2134, ("via-join", 24, 16)) == 0
    most = theory.link_capacity(100_000, 512, 2134, 16)
    shares = theory.link_crowding(100_000, 512, 2134, 16, [most, most + 1])
    assert shares[0] <= 0.5 < shares[1]
    assert theory.link_capacity(2**52, 2**12, 1000, 1000) == 2**40


def test_the_grid_of_item_sizes_repeats_the_printed_ones_and_leaves_out_what_has_no_solution():
    table = theory.size_table([100_000, 1_000_000], [512, 8192], [16, 64, 512])
    cells = {tuple(row[:3]): row[3:] for row in table.rows}
    assert cells[100_000, 512, 16] == [2338, 2134, "2338 / 2134", "0 / 0"]
    assert cells[1_000_000, 8192, 16] == [1165, 1065, "1165 / 1065", "0 / 0"]
    assert cells[1_000_000, 8192, 64] == [6491, 6219, "6491 / 6219", "0 / 0"]
    assert cells[100_000, 512, 512][:2] == [None, None]
    assert cells[100_000, 8192, 16][2:] == ["–", "–"]
    assert len(theory.PRINTED) == 6
    assert all(theory.solve_r(*cell) == r for cell, r in theory.PRINTED.items())


@pytest.mark.parametrize("cues", [1, 2])
def test_a_link_fires_for_unrelated_cues_as_its_conditions_say(cues):
    k, r = 8, 460
    found = {one.name: one.value for one in theory.conditions(N, DEGREE, k, r=r)}

    def fired(graph, generator):
        a, b, *other = draw(generator, 2 + cues, r)
        return b.fraction_firing(link(graph, a, b, k).fire(np.concatenate([cue.neurons for cue in other])))

    expected = found["association" if cues == 1 else "two items"]
    near(means(fired), expected, allowed=0.02)
    assert (expected > 0.9) == (cues == 2)


def test_conditions_as_a_table_has_a_row_for_each():
    table = theory.condition_table(1_000_000, 8192, 64, steps=1)
    found = theory.conditions(1_000_000, 8192, 64, steps=1)
    assert [row[0] for row in table.rows] == [one.name for one in found]
    assert [row[-1] for row in table.rows] == [one.holds for one in found]
    crowded = {one.name: one.holds for one in theory.conditions(100_000, 512, 16, r=4000, steps=1)}
    assert not crowded["specificity"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: theory.transfer_curve(100, 10, 9, 9, ("link", 0, 2), noise=3),
            InvalidValueError,
            "items is needed",
        ),
        (
            lambda: theory.transfer_curve(
                100, 10, 9, 9, ("link", 0, 2), trained=("via-join", 4, 2), items=(9, 9)
            ),
            InvalidValueError,
            "only thresholds may differ",
        ),
        (lambda: theory.recall_curve(100, 10, 9, 9, 1, 1, 4, noise=-1), InvalidValueError, "0 or more"),
        (lambda: theory.recall_curve(100, 10, 9, 9, 1, 1, 4, steps=3), InvalidValueError, "takes 1 or 2"),
        (lambda: theory.crowding(100, 10, 9, ("link", 0, 2), 0), InvalidValueError, "at least 1"),
        (lambda: theory.link_crowding(100, 10, 9, 11, 1), InvalidValueError, "from 1 to the degree"),
        (lambda: theory.conditions(100_000, 512, 16, r=3), InvalidValueError, "from k = 16"),
        (lambda: theory.solve_r(1000, 100, 1), InvalidValueError, "JOINs grow at every size"),
        (lambda: theory.solve_r(1000, 100, 2.5), InvalidTypeError, "an integer"),
        (lambda: theory.solve_r(1000, 1000, 2), InvalidValueError, "below n = 1000"),
    ],
)
def test_wrong_numbers_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
