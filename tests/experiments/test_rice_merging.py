"""The made-up crystal and its exact posteriors, and the experiment on them in small."""

import dataclasses
import itertools
import math

import pytest
import torch
from scipy import integrate

from experiments.carrying import carry_out, results_of
from fingerpost.errors import ConfigError
from fingerpost.experiments import _crystal as crystal
from fingerpost.experiments import _merging as merging
from fingerpost.experiments import load_experiment

CELL = (12.0, 15.0, 18.0)
SMALL = {
    "crystals": 4,
    "cell_a": 14.0,
    "cell_b": 17.0,
    "cell_c": 20.0,
    "atoms": 60,
    "shells": 4,
    "steps": 250,
    "samples": 2,
    "redraws": 40,
}


@pytest.fixture(scope="module")
def reflections():
    return crystal.crystals(2, CELL, 2.5, 40, 20.0, 0)


@pytest.fixture(scope="module")
def merged(reflections):
    seen = crystal.observe(reflections, 12, 4.0, 0.2, 0)
    return merging.merge(reflections, seen, seen.scale)


def test_axial_reflections_are_doubled_or_absent_and_zones_are_centric():
    hkl = torch.tensor(
        [[2, 0, 0], [3, 0, 0], [0, 5, 0], [0, 0, 4], [1, 2, 0], [0, 3, 1], [2, 0, 3], [1, 1, 1]]
    )
    assert crystal.P212121.absent(hkl).tolist() == [False, True, True, False, False, False, False, False]
    assert crystal.P212121.multiplicity(hkl).tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    assert crystal.P212121.centric(hkl).tolist() == [True] * 7 + [False]


def test_structure_factors_are_those_of_all_atoms_in_the_cell():
    """Expanded to P1 by moving each atom, without the space group's rule for F."""
    atoms = crystal.random_atoms(5, 20.0, 1)
    hkl = torch.tensor([[1, 2, 3], [2, 0, 0], [3, 0, 0], [0, 3, 1], [4, 1, 0]])
    squared = 0.25 / crystal.spacing(hkl, CELL) ** 2
    x, y, z = atoms.places.T
    half = torch.full_like(x, 0.5)
    mates = [(x, y, z), (half - x, -y, half + z), (-x, half + y, half - z), (half + x, half - y, -z)]
    expected = torch.zeros(len(hkl), dtype=torch.complex128)
    for mate in mates:
        turn = 2 * math.pi * hkl.double() @ torch.stack(mate)
        expected += torch.polar(
            atoms.electrons * torch.exp(-(crystal.CLOUD + atoms.wobble) * squared[:, None]), turn
        ).sum(1)
    found = crystal.structure_factors(atoms, hkl, squared)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert float(found[2].abs()) < 1e-10  # an absence


def test_centric_reflections_lie_on_a_line_and_acentric_ones_do_not(reflections):
    """In P2₁2₁2₁ centric phases are multiples of 90°."""
    phase = reflections.structure.angle() / (math.pi / 2)
    off = (phase - phase.round()).abs()
    strong = reflections.amplitude > 0.1
    assert float(off[reflections.centric & strong].max()) < 1e-8
    assert float(off[~reflections.centric].mean()) > 0.2


def test_mean_intensities_are_the_multiplicity_times_the_sum_over_atoms():
    hkl = torch.tensor([[2, 0, 0], [0, 3, 1], [1, 2, 3]])
    squared = 0.25 / crystal.spacing(hkl, CELL) ** 2
    total, expected = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for seed in range(600):
        atoms = crystal.random_atoms(20, 20.0, seed)
        total += crystal.structure_factors(atoms, hkl, squared).abs().square()
        factors = atoms.electrons * torch.exp(-(crystal.CLOUD + atoms.wobble) * squared[:, None])
        expected += 4 * crystal.P212121.multiplicity(hkl) * factors.square().sum(1)
    torch.testing.assert_close(total / expected, torch.ones(3, dtype=torch.float64), rtol=0, atol=0.2)


def test_unique_reflections_are_all_there_are(reflections):
    """One of each set of equivalents: counted against the whole sphere in class mmm."""
    ranges = [range(-int(edge / 2.5), int(edge / 2.5) + 1) for edge in CELL]
    sphere = torch.cartesian_prod(*(torch.tensor(list(r)) for r in ranges))
    sphere = sphere[sphere.any(1)]
    sphere = sphere[(crystal.spacing(sphere, CELL) >= 2.5) & ~crystal.P212121.absent(sphere)]
    classes = {tuple(row) for row in sphere.abs().tolist()}
    first = reflections.hkl[reflections.crystal == 0]
    assert {tuple(row) for row in first.tolist()} == classes
    assert len(first) == len(classes)


def test_merging_is_the_weighted_mean_of_scaled_intensities(reflections):
    seen = crystal.observe(reflections, 12, 4.0, 0.2, 0)
    found = merging.merge(reflections, seen, seen.scale)
    row = 17
    chosen = seen.reflection == row
    k, sigma, intensity = seen.scale[seen.frame[chosen]], seen.sigma[chosen], seen.intensity[chosen]
    weight = (k / sigma) ** 2
    expected = (weight * intensity / k).sum() / weight.sum()
    torch.testing.assert_close(found.mean[row] * found.unit[row] ** 2, expected)
    torch.testing.assert_close(found.error[row] * found.unit[row] ** 2, weight.sum().rsqrt())


def test_posteriors_are_those_of_an_adaptive_quadrature(merged):
    posterior = merging.Posterior(merged)
    ratio = merged.mean / merged.error
    for row in {int(ratio.argmax()), int(ratio.argmin()), int(ratio.abs().argmin()), 5, 40}:
        one = merged.of(torch.tensor([row]))

        def joint(e, power=0, one=one):
            x = torch.tensor([e], dtype=torch.float64)
            return float((one.prior.log_prob(x) + one.log_likelihood(x)).exp()) * e**power

        low, high = float(posterior.low[row]), float(posterior.high[row])
        parts = [low + (high - low) * i / 8 for i in range(9)]
        masses = [
            sum(
                integrate.quad(joint, max(a, 1e-12), b, (power,), epsabs=0, epsrel=1e-11)[0]
                for a, b in itertools.pairwise(parts)
            )
            for power in (0, 1)
        ]
        assert float(posterior.evidence[row]) == pytest.approx(math.log(masses[0]), abs=1e-9)
        assert float(posterior.mean[row]) == pytest.approx(masses[1] / masses[0], rel=1e-8)
    middle = posterior.cdf(posterior.mean)
    assert bool(((middle > 0.3) & (middle < 0.75)).all())
    torch.testing.assert_close(posterior.cdf(posterior.high), torch.ones_like(middle), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", merging.KINDS)
def test_the_bound_is_below_the_evidence_and_samples_average_to_it(merged, kind):
    q = merging.Surrogate(kind, merged)()
    exact = merging.exact_elbo(q, merged).detach()
    assert float((merging.Posterior(merged).evidence - exact).min()) > 0
    torch.manual_seed(0)
    found = torch.stack([merging.sampled_elbo(q, merged, 500).detach() for _ in range(20)])
    error = found.std(0) / math.sqrt(20)
    assert float(((found.mean(0) - exact) / error).abs().max()) < 5.5


@pytest.mark.parametrize("kind", merging.KINDS)
def test_the_gradient_of_the_exact_bound_is_its_finite_difference(merged, kind):
    rows = merged.of(torch.arange(6))
    model = merging.Surrogate(kind, rows)
    point = [x.detach().clone().requires_grad_() for x in (model.loc, model.scale)]
    assert torch.autograd.gradcheck(
        lambda loc, scale: merging.exact_elbo(model.at(loc, scale), rows), point, rtol=1e-5
    )


def test_single_observations_at_known_scales_bound_what_merged_ones_do(reflections):
    """The sum of squares over observations is that of the merged mean and a constant, whatever q is."""
    seen = dataclasses.replace(
        crystal.observe(reflections, 12, 4.0, 0.2, 0), scale=torch.ones(24, dtype=torch.float64)
    )
    merged = merging.merge(reflections, seen, seen.scale)
    gaps = []
    for shift in (0.0, 0.4):
        model = merging.Surrogate("Rice–Woolfson", merged, 24)
        with torch.no_grad():
            model.loc.add_(shift)
            torch.manual_seed(0)
            single = merging.scaled_elbo(model, merged, seen, 3, 12)
            torch.manual_seed(0)
            gaps.append(single - merging.sampled_elbo(model(), merged, 3).sum())
    torch.testing.assert_close(gaps[0], gaps[1], rtol=1e-9, atol=0)


def test_the_experiment_holds_its_claims_in_small(tmp_path):
    folder = carry_out("rice-merging", tmp_path / "run", **SMALL)
    claims = {claim.name: claim for claim in folder.claims()}
    for name in ("bound-rice-woolfson", "bound-truncated-normal", "beats-the-root", "gap-rice-woolfson"):
        assert claims[name].holds, (name, claims[name].measured, claims[name].note)
    drawn = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {"wilson", "r-by-resolution", "calibration", "ranks", "amplitudes", "posteriors"}


def test_a_run_repeats_to_the_byte(tmp_path):
    few = {**SMALL, "steps": 4, "redraws": 8}
    for name in ("a", "b"):
        carry_out("rice-merging", tmp_path / name, **few)
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float32"}, {"device": "cuda"}, {"crystals": 1}, {"resolution": 9.0}, {"observations": 0.5},
        {"audited": 4}, {"redraws": 2}, {"noise": 0.0},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes):
    module = load_experiment("rice-merging")
    with pytest.raises(ConfigError, match=next(iter(changes))):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
