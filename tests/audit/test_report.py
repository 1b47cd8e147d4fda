"""Reports say the same as text, HTML and JSON, and twice the same from the same seed."""

import json
from pathlib import Path

import pytest
import torch

from audit.subjects import Layered, examine, normal, quartic, slope_of  # isort: skip
from fingerpost.audit import FIGURES, TEMPLATES, AuditReport, Cost, assert_aligned, audit
from fingerpost.errors import AlignmentError, FingerpostError, InvalidValueError
from fingerpost.experiments._faulty import FAULTS, random_net, with_noise

exact = slope_of(quartic)
DOCS = Path(__file__).parents[2] / "docs" / "audit.md"


def noisy(x):
    return exact(x) + 0.3 * normal(*x.shape, seed=8)


@pytest.fixture(scope="module")
def faulty():
    net = random_net(0, 64)
    return examine(Layered(net), with_noise(FAULTS["sign"](net), 0.1, 0), quick=False, cost=True)


def test_json_round_trip_is_equal(faulty):
    text = faulty.to_json()
    again = AuditReport.from_json(text)
    assert again == faulty
    assert again.to_json() == text
    assert isinstance(again.cost, Cost)


def test_json_holds_no_nan_and_explains_its_figures():
    x = normal(16, 3)
    report = audit(lambda x: 0 * x, quartic, x, cost=False)
    data = json.loads(report.to_json(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert set(data["layers"][0]["figures"]) <= set(data["legend"])
    assert AuditReport.from_json(report.to_json()).to_json() == report.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "verdict": {}}'])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(InvalidValueError):
        AuditReport.from_json(text)


def test_text_says_verdict_reason_layers_and_cost(faulty):
    text = str(faulty)
    assert text.startswith("FAULT(sign, layers 1–")
    assert "flip the sign" in text
    assert "exact gradients in time" in text
    for key in ("gamma", "batch_gamma", "rho", "rho_exact", "probe", "scale"):
        assert FIGURES[key][0] in text
    assert "nan" not in text


def test_html_escapes_hostile_leaf_names():
    hostile = '<script>alert("x")</script>'
    point = {hostile: normal(16, 3)}
    report = audit(lambda p: {hostile: -exact(p[hostile])}, lambda p: quartic(p[hostile]), point, cost=False)
    page = report._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert report.faults[0].layers == (hostile,)
    assert AuditReport.from_json(report.to_json()) == report


def test_layers_are_found_by_position_and_by_name(faulty):
    assert faulty.layers["1"] is faulty.layers[0]
    with pytest.raises(KeyError, match="no layer 'x'"):
        faulty.layers["x"]
    assert "<table" in faulty.layers._repr_html_()


def test_the_same_seed_gives_the_same_report_and_another_seed_another():
    x = normal(32, 4)

    def run(seed):
        return audit(noisy, quartic, x, cost=False, generator=torch.Generator().manual_seed(seed)).to_json()

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_settings_say_how_the_audit_was_run(faulty):
    expected = {"n": 64, "perturbations": 3, "redraws": 0, "level": 0.9, "mode": "full", "per_sample": True}
    report = audit(exact, quartic, normal(100, 3), n=64, perturbations=3, level=0.9, cost=False)
    assert {k: report.settings[k] for k in expected} == expected
    assert report.layers[0].samples == 64


def test_cost_counts_in_exact_gradients():
    x = normal(64, 32)

    def thrice(x):
        return (exact(x) + exact(x) + exact(x)) / 3

    cost = audit(thrice, quartic, x, quick=False).cost
    assert cost.time[0] <= cost.time[1] <= cost.time[2]
    assert cost.memory > 0
    assert cost.gradient_seconds > 0
    assert cost.signal_bytes >= x.numel() * 8
    assert audit(exact, quartic, x, cost=False).cost is None


def test_depth_trend_of_the_scale_is_reported():
    net = random_net(2, 64, depth=6)
    signals = [0.5 ** (5 - i) * g for i, g in enumerate(net.backward())]
    trend = examine(Layered(net), signals).overall["scale_trend"]
    assert trend.value == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-6)


def test_assert_aligned_passes_what_passes_and_raises_with_the_report():
    x = normal(32, 4)
    assert assert_aligned(exact, quartic, x).verdict.name == "EXACT"
    assert assert_aligned(noisy, quartic, x).cost is None
    with pytest.raises(AssertionError, match="flip the sign") as caught:
        assert_aligned(lambda x: -exact(x), quartic, x)
    assert isinstance(caught.value, AlignmentError)
    assert isinstance(caught.value, FingerpostError)
    with pytest.raises(AlignmentError, match="accepted: EXACT"):
        assert_aligned(noisy, quartic, x, accept=["EXACT"])


def test_the_page_for_users_names_every_fault_verdict_and_figure():
    page = DOCS.read_text(encoding="utf-8")
    for template in TEMPLATES:
        assert f"| {template.name} |" in page, template.name
    for heading, _ in FIGURES.values():
        assert f"| {heading} |" in page, heading
    for verdict in (
        "EXACT",
        "ALIGNED",
        "UNBIASED_NOISY",
        "BIASED",
        "NULL",
        "FAULT",
        "INSTRUMENT_FAIL",
        "INSUFFICIENT",
    ):
        assert f"`{verdict}`" in page
