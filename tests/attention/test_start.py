"""How parameters start: the paper's draws, the small preset's, reproducible from a generator."""

import math

import pytest
import torch

from fingerpost.attention import PAPER, PRESETS, RNNEncoderDecoder, RNNSearch
from fingerpost.errors import InvalidValueError


def blocks(unit):
    return unit.recurrent.detach().split(unit.hidden_size)


def units(model):
    return [
        u
        for u in (model.encoder.forward_unit, model.encoder.backward_unit, model.decoder.unit)
        if u is not None
    ]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", [RNNSearch, RNNEncoderDecoder])
def test_recurrent_matrices_are_orthogonal_gate_by_gate_and_biases_zero(model, preset):
    sizes = {"embedding": 8, "hidden": 16, "maxout": 8, "reset": "after"}
    made = model.from_preset(20, 30, preset, **sizes)
    for unit in units(made):
        for block in blocks(unit):
            torch.testing.assert_close(block @ block.T, torch.eye(16), rtol=0, atol=1e-5)
    biases = [p for name, p in made.named_parameters() if "bias" in name]
    assert len(biases) >= 7
    assert all((p == 0).all() for p in biases)


def test_the_paper_draws_its_alignment_and_all_else_with_its_own_deviations():
    sizes = {"embedding": 40, "hidden": 50, "attention": 60, "maxout": 30}
    made = RNNSearch.from_preset(300, 400, "paper", **sizes)
    assert made.decoder.readout_state == "previous"
    attention = made.decoder.attention
    assert (attention.score_vector == 0).all()
    for name, p in made.named_parameters():
        if p.ndim == 2 and not name.endswith("recurrent"):
            std = 0.001 if ".attention." in name else 0.01
            assert abs(float(p.detach().std()) / std - 1) < 5 / math.sqrt(2 * p.numel()), name
            assert abs(float(p.detach().mean())) < 5 * std / math.sqrt(p.numel()), name


def test_presets_carry_the_papers_sizes_and_training():
    assert (PAPER.embedding, PAPER.hidden, PAPER.attention, PAPER.maxout) == (620, 1000, 1000, 500)
    assert (PAPER.optimizer, PAPER.decay, PAPER.epsilon, PAPER.gradient_norm) == ("adadelta", 0.95, 1e-6, 1.0)
    assert (PAPER.batch, PAPER.sorted_batches) == (80, 20)


@pytest.mark.parametrize("preset", PRESETS)
def test_one_generator_draws_one_model_and_leaves_torchs_alone(preset):
    made = [RNNSearch.from_preset(9, 9, embedding=4, hidden=4, attention=4, maxout=4) for _ in range(2)]
    before = torch.random.get_rng_state()
    for model in made:
        assert model.initialize(preset, torch.Generator().manual_seed(5)) is model
    assert (torch.random.get_rng_state() == before).all()
    for one, other in zip(made[0].parameters(), made[1].parameters()):
        assert (one == other).all()


def test_the_start_is_near_the_uniform_guess():
    source, target = torch.tensor([[4, 5, 3]]), torch.tensor([[6, 3]])
    for preset in PRESETS:
        model = RNNSearch.from_preset(50, 50, preset, embedding=16, hidden=16, attention=16, maxout=16).eval()
        loss = model.loss(source, target)
        assert abs(float(loss.total.detach()) / loss.count - math.log(50)) < 1


def test_an_unknown_preset_is_refused():
    with pytest.raises(InvalidValueError, match="did you mean 'paper'"):
        RNNSearch.from_preset(9, 9, "papers")
