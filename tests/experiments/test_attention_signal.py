"""attention-signal in small: that it resumes to the bit, and that norms, slopes, faults and claims are what they say."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from fingerpost.audit import AuditReport, audit
from fingerpost.errors import ConfigError
from fingerpost.experiments import _attention_signal_audits as audits
from fingerpost.experiments import _attention_signal_reach as reaching
from fingerpost.experiments import _attention_signal_results as results
from fingerpost.experiments import _permutations as permutations
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_signal as module
from fingerpost.lab import Run

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "seeds": 2, "words": 6, "shortest": 3, "longest": 8, "measured": (4, 6, 8, 10), "sentences": 2, "tests": 4, "pairs": 64,
    "held": 8, "embedding": 6, "hidden": 6, "epochs": 1, "batch_size": 16, "units": 8, "audit_longest": 3,
    "faults": ("scores",), "fault_states": ("trained",),
}  # fmt: skip
TIMED = ("cpu_seconds", "words")


def config(**changes):
    return dataclasses.replace(module.PRESETS["quick"], **{**TINY, **changes})


def model_of(kind, small=None):
    small = small or config()
    size = small.words + permutations.SPECIAL
    return reaching.in_double(translation.new_model(kind, size, size, translation.recipe_of(small), 0))


def sentences(words, count=3, order="halves"):
    made = permutations.task(order, count, (words, words), 6, seed=5)
    return made, torch.tensor(made.source), torch.tensor(made.target)


def audit_of_a_square():
    """The report of an exact signal, as JSON."""
    x = torch.linspace(-1, 1, 40).reshape(20, 2)
    return audit(lambda x: 2 * x, lambda x: x.square().sum(1), x, cost=False).to_json()


def without_times(found):
    """Results but pictures as they are, stages of trainings without what a clock said."""
    kept = {}
    for path, content in found.items():
        if path.parts[0] in ("figures", "contents.json"):  # drawn once: it takes longer than all else
            continue
        if path.parts[0] == "stages":
            stage = json.loads(content)
            if isinstance(stage["result"], dict):
                stage["result"] = {k: v for k, v in stage["result"].items() if k not in TIMED}
            content = stage["result"]
        kept[path] = content
    return kept


def test_killed_in_a_training_and_between_stages_it_ends_with_what_it_would_have_had(tmp_path, monkeypatch):
    monkeypatch.setattr(audits, "audited", lambda model, *given: audit_of_a_square())  # real ones below
    whole = carry_out("attention-signal", tmp_path / "whole", **TINY)
    assert len(list((tmp_path / "whole" / "figures").glob("*.svg"))) == 5
    monkeypatch.setattr(results, "_figures", lambda *given: None)
    decay, calls = translation.decay, iter(range(1000))

    def dies(update, updates):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return decay(update, updates)

    monkeypatch.setattr(translation, "decay", dies)
    with pytest.raises(KeyboardInterrupt):
        carry_out("attention-signal", tmp_path / "killed", **TINY)
    monkeypatch.setattr(translation, "decay", decay)
    scores = module.scores
    monkeypatch.setattr(module, "scores", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        carry_out("attention-signal", tmp_path / "killed", **TINY)
    monkeypatch.setattr(module, "scores", scores)
    carry_out("attention-signal", tmp_path / "killed", **TINY)
    assert without_times(results_of(tmp_path / "whole")) == without_times(results_of(tmp_path / "killed"))
    for weights in sorted((tmp_path / "whole").glob("*-*/*.safetensors")):
        other = tmp_path / "killed" / weights.relative_to(tmp_path / "whole")
        assert weights.read_bytes() == other.read_bytes()
    claims = {claim.name: claim for claim in whole.claims()}
    assert {"by-hand-exact", "faults-refused", "fault-scores-named"} <= set(claims)
    assert claims["by-hand-exact"].holds
    assert not claims["faults-refused"].holds
    assert claims["encdec-distance-start"].measured < 0


# the gradient


@pytest.mark.parametrize("kind", list(translation.MODELS))
def test_norms_are_those_of_differences_of_log_p_and_no_sentence_feels_the_others(kind, monkeypatch):
    model = model_of(kind)
    _, source, target = sentences(4)
    monkeypatch.setattr(reaching, "ROWS", 6)  # words in parts of two
    found, unsure = reaching.norms(model, source, target)
    embeddings = model.encoder.embedding(source).detach()
    with torch.no_grad():
        logs = model.log_probs(source, target)
        assert torch.allclose(unsure, 1 - logs.exp(), rtol=1e-12)
        for b, i, j in ((0, 0, 0), (1, 2, 3), (2, 4, 1)):
            slopes = []
            for k in range(embeddings.shape[2]):
                sides = []
                for step in (1e-5, -1e-5):
                    moved = embeddings.clone()
                    moved[b, j, k] += step
                    sides.append(model.log_probs(source, target, source_embeddings=moved)[b, i].item())
                slopes.append((sides[0] - sides[1]) / 2e-5)
            assert found[b, i, j].item() == pytest.approx(math.hypot(*slopes), rel=1e-5)
    alone, _ = reaching.norms(model, source[1:2], target[1:2])
    assert torch.allclose(alone[0], found[1], rtol=1e-10)


def test_the_recurrences_between_a_word_and_the_context_are_as_many_as_the_path_says():
    """With the encoder cut at each step a gradient is left where the path has no step: all words with attention."""
    for kind in translation.MODELS:
        model = model_of(kind)
        _, source, target = sentences(5)
        with audits.with_fault(model, "encoder"):
            found, _ = reaching.norms(model, source, target)
        path = reaching.steps_to_context(kind, 5)
        reached = [True] * 5 if path is None else (path == 0).tolist()
        assert (found[:, 1:, :5] > 0).all((0, 1)).tolist() == reached
        assert (found[:, 1:, 5] > 0).all()  # the end of the sentence is read by all
        assert (found[:, 1:, :5] > 0).any((0, 1)).tolist() == reached


def test_slopes_are_those_that_were_put_in_and_levels_of_rows_or_columns_do_not_matter():
    places = torch.arange(7, dtype=torch.float64)
    x = places.expand(7, 7)
    levels = torch.randn(3, 7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert reaching.slope(levels - 0.3 * x, x, -1) == pytest.approx(-0.3)
    assert reaching.slope(levels.mT + 0.2 * x.T, x.T, -2) == pytest.approx(0.2)
    assert reaching.curve(levels.new_zeros(2, 7, 7) + x, x.long(), 7) == pytest.approx(list(range(7)))
    assert reaching.fitted([1.0, 0.5, 0.0], [10, 20, 30]) == pytest.approx(-0.05)


def test_reach_reads_the_true_word_from_the_alignment(monkeypatch):
    made, _, _ = sentences(6)
    planted = torch.full((3, 7, 7), 1e-3, dtype=torch.float64)
    planted.scatter_(2, torch.tensor(made.alignment).unsqueeze(-1), 1.0)
    unsure = torch.full((3, 7), 0.5, dtype=torch.float64)
    monkeypatch.setattr(reaching, "norms", lambda *given: (planted, unsure))
    found = reaching.reach(model_of("search"), "search", made)
    assert found["raw"] == pytest.approx(0)
    assert found["true"] == pytest.approx(math.log(2))  # log-odds: over 1 − p
    assert found["share"] == pytest.approx(1 / (1 + 6e-6))
    assert found["by_apart"][0] == pytest.approx(math.log(2))
    assert found["by_apart"][1:] == pytest.approx([math.log(2e-3)] * 5)
    assert found["slopes"]["path"] is None
    assert found["top"] == 1
    assert 0 <= found["alpha"] < 1


# the audits


@pytest.mark.parametrize(
    ("kind", "fault"), [(kind, f) for kind in module.AUDITED for f in audits.faults_of(kind)]
)
def test_a_fault_keeps_the_loss_changes_the_gradient_and_leaves_the_model_as_it_was(kind, fault):
    model = model_of(kind)
    _, source, target = sentences(4)
    part, before = (source, target), model.fused
    right = audits.signal(model, part, audits.BY_HAND)
    wrong = audits.signal(model, part, fault)
    with torch.no_grad():
        plain = model.log_probs(*part)
        with audits.with_fault(model, fault):
            assert torch.allclose(model.log_probs(*part), plain, rtol=1e-12)
    assert max(float((right[name] - wrong[name]).norm() / right[name].norm()) for name in right) > 1e-3
    with pytest.raises(RuntimeError, match="inside"), audits.with_fault(model, fault):
        raise RuntimeError("inside")
    again = audits.signal(model, part, audits.BY_HAND)
    assert model.fused == before
    assert all(torch.equal(right[name], again[name]) for name in right)


def test_without_a_fault_the_recorded_gradient_is_that_by_hand_on_padded_batches():
    model = model_of("search")
    made = permutations.task("halves", 4, (2, 6), 6, seed=1)
    batch = module.attention.EncodedPairs(made.source, made.target).batch(range(4))
    part = (batch.source, batch.target)
    by_hand = audits.signal(model, part, audits.BY_HAND)
    mean = audits.losses(model, part).mean()
    exact = torch.autograd.grad(mean, list(model.parameters()))
    for (name, found), wanted in zip(by_hand.items(), exact):
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), name


def test_a_wrong_pass_by_hand_and_a_fault_that_passes_fail_their_claims(tmp_path, monkeypatch):
    signal = audits.signal
    monkeypatch.setattr(
        audits, "signal", lambda model, part, fault: {k: -g for k, g in signal(model, part, fault).items()}
    )
    made = permutations.task("reverse", 16, (2, 3), 6, seed=2)
    report = AuditReport.from_json(audits.audited(model_of("encdec"), made, 8, audits.BY_HAND, 0))
    assert str(report.verdict).startswith("FAULT(sign")
    monkeypatch.undo()
    exact = AuditReport.from_json(audits.audited(model_of("encdec"), made, 8, audits.BY_HAND, 0))
    with_run(
        tmp_path,
        lambda run: results._claim_audits(
            run,
            {("encdec", "start", audits.BY_HAND): report, ("search", "start", "scores"): exact},
        ),
        {"by-hand-exact": False, "faults-refused": False, "fault-scores-named": False},
    )


# the claims


def with_run(folder, act, expected):
    """States claims in a run of its own and compares which of them hold."""
    run = Run.open(folder / "run", experiment="attention-signal", config=config())
    act(run)
    stated = {row["name"]: row for row in run._claims}
    run.close("completed")
    from fingerpost.lab.folder import RunFolder

    held = {claim.name: claim.holds for claim in RunFolder(folder / "run").claims()}
    assert stated
    assert {name: held[name] for name in expected} == expected


def planted(decay):
    """What is found if the log-norm at the true word falls by `decay[kind]` a word and along paths, alike in all trainings."""
    small, found = config(), results.Found()
    for kind, rate in decay.items():
        for seed in range(small.seeds):
            found.scores[kind, seed] = {"exact": [math.exp(-rate * n) for n in small.measured]}
            for state in reaching.STATES:
                slopes = {"path": None if kind == "search" else -rate}
                found.reach[kind, state, seed] = {
                    str(n): {
                        "true": -rate * n if state == "trained" or kind != "search" else -math.log(n),
                        "share": math.exp(-rate * n),
                        "near": 1.0,
                        "slopes": slopes,
                    }
                    for n in small.measured
                }
    return small, results.Measured(small, found)


@pytest.mark.parametrize(("ours", "theirs", "holds"), [(0.0, 0.1, True), (0.1, -0.05, False)])
def test_claims_of_decay_hold_where_they_should_and_fail_where_it_is_the_other_way_round(
    tmp_path, ours, theirs, holds
):
    small, measured = planted({"search": ours, "fixed": theirs, "encdec": theirs})

    def state(run):
        results._claim_fixed(small, run, measured)
        results._claim_attention(small, run, measured)
        results._claim_scores(small, run, measured)

    names = [f"{kind}-{what}-{state}" for kind in results.FIXED for what in ("distance", "length") for state in
             reaching.STATES]  # fmt: skip
    names += ["attention-length-trained", "attention-share"]
    names += [f"{what}-over-{kind}" for what in ("attention", "share", "exact") for kind in results.FIXED]
    with_run(tmp_path, state, {**dict.fromkeys(names, holds), "attention-start-spreads": True})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order": "random"}, "order is 'random'"),
        ({"seeds": 1}, "at least 2"),
        ({"shortest": 9}, "shortest is 9"),
        ({"measured": (4, 6)}, "three of them"),
        ({"measured": (8, 6, 4)}, "that rise"),
        ({"measured": (3, 6, 8)}, "at least 4"),
        ({"sentences": 1}, "sentences is 1"),
        ({"units": 4}, "8 parts"),
        ({"audit_longest": 1}, "two words"),
        ({"faults": ("none",)}, "faults is"),
        ({"fault_states": ()}, "fault_states is"),
        ({"rate": 0.0}, "rate is"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(config(**changes))


def test_presets_pass_their_own_check():
    for preset in module.PRESETS.values():
        module.check(preset)
