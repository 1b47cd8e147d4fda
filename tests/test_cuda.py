"""On a GPU every system gives what it gives on a processor; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fingerpost import attention, credit, distributions, flow, ode, population, spectral, td
from fingerpost.audit import audit
from fingerpost.lab import Run, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ("cpu", "cuda")


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def agree(on: dict[str, list[Tensor]], tolerance: float = 1e-9) -> None:
    """What came from the GPU stays there, and is what the processor computed."""
    for host, device in zip(on["cpu"], on["cuda"], strict=True):
        assert device.is_cuda
        torch.testing.assert_close(device.cpu(), host, rtol=tolerance, atol=tolerance)


def gradients(model: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def double_net(inputs: int, outputs: int, device: str) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))
        return torch.nn.Sequential(*layers).double().to(device)


@pytest.mark.parametrize("signal", [credit.Backprop(), credit.DisplacementCredit(), credit.ErrorCredit()])
def test_local_gradients_of_a_chain(signal: credit.AbstractCredit) -> None:
    found = {}
    for device in DEVICES:
        generator = torch.Generator().manual_seed(0)
        chain = credit.residual_mlp(6, 8, 3, 4, generator=generator).double().to(device)
        x, y = draws(10, 6).to(device), torch.arange(10, device=device) % 3
        credit.local_gradients(chain, x, y, signal(chain, x, y))
        found[device] = gradients(chain)
    agree(found, 1e-7)


@pytest.mark.parametrize("gradient", ["checkpoint", "tape", "backsolve"])
def test_gradients_through_an_ode(gradient: str) -> None:
    found = {}
    for device in DEVICES:
        net = double_net(2, 2, device)
        y0 = draws(5, 2).to(device).requires_grad_()
        times = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=device)
        params = list(net.parameters())
        solution = ode.solve(
            lambda t, y: net(y), y0, times, rtol=1e-9, atol=1e-11, gradient=gradient, params=params
        )
        solution.ys[-1].square().sum().backward()
        assert y0.grad is not None
        found[device] = [solution.ys, y0.grad, *gradients(net)]
    agree(found, 1e-7)


@pytest.mark.parametrize("coupling", [None, flow.Independent()])
def test_flow_matching_and_sampling(coupling: flow.AbstractCoupling | None) -> None:
    found = {}
    for device in DEVICES:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = flow.FlowMLP(2, width=16, depth=2).double().to(device)
        x1, x0 = draws(40, 2, seed=1).to(device), draws(40, 2, seed=2).to(device)
        time = torch.linspace(0, 1, 40, dtype=torch.float64, device=device)
        loss = flow.cfm_loss(model, x1, x0=x0, time=time, coupling=coupling)
        loss.backward()
        with torch.no_grad():
            made = flow.sample(model, x0, steps=4)
            density = flow.log_prob(model, x1[:5], steps=4)
        found[device] = [loss.detach(), made, density, *gradients(model)]
    agree(found, 1e-7)


def test_optimal_transport_couplings_stay_on_the_device() -> None:
    model = flow.FlowMLP(2, width=16, depth=2).cuda()
    for coupling in (flow.ExactOT(), flow.Sinkhorn(0.5)):
        loss = flow.cfm_loss(model, torch.randn(64, 2, device="cuda"), coupling=coupling)
        loss.backward()
        assert loss.is_cuda
        assert all(bool(g.isfinite().all()) for g in gradients(model))


def test_implicit_reparameterization() -> None:
    loc = torch.tensor([0.5, 3.0, 50.0], dtype=torch.float64, device="cuda", requires_grad=True)
    z = distributions.Rice(loc, torch.ones((), dtype=torch.float64, device="cuda")).rsample((20_000,))
    z.square().mean(0).sum().backward()
    assert z.is_cuda
    assert loc.grad is not None
    torch.testing.assert_close(loc.grad, 2 * loc.detach(), rtol=0.03, atol=0.03)


def test_lambda_returns_and_advantages() -> None:
    found = {}
    for device in DEVICES:
        r, v = draws(3, 200).to(device), draws(3, 201, seed=1).to(device)
        done = (draws(3, 200, seed=2) > 1.5).to(device)
        advantage, returns = td.generalized_advantage(r, v[:, :-1], done, 0.99, 0.95, next_values=v[:, 1:])
        found[device] = [advantage, returns]
    agree(found)


def test_td_of_a_network() -> None:
    found = {}
    for device in DEVICES:
        net = double_net(4, 1, device)
        x = draws(7, 4).to(device)
        found[device] = list(td.td_gradients(net, x, 0.7, 0.5).values())
    agree(found)


def test_tangent_kernels_and_features() -> None:
    found = {}
    for device in DEVICES:
        features = spectral.FourierFeatures.gaussian(2, 8, 3.0, generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        net = spectral.CoordinateMLP(2, 1, 32, 3, encoding=features, generator=generator).double().to(device)
        x = draws(12, 2).to(device)
        found[device] = [
            spectral.empirical_ntk(net, x, reduce="full"),
            spectral.ntk_matvec(net, x, draws(12, 1, seed=4).to(device)),
            spectral.relu_ntk(x, depth=3),
        ]
    agree(found, 1e-8)


def test_a_fitted_picture() -> None:
    side = torch.linspace(0, 1, 24, device="cuda")
    image = (torch.sin(6 * side)[:, None] * torch.cos(5 * side)[None] / 2 + 0.5)[..., None]
    fit = spectral.fit_image(image, width=32, depth=2, steps=50, generator=torch.Generator().manual_seed(0))
    assert next(iter(fit.model.parameters())).is_cuda


def test_posteriors_of_populations() -> None:
    found = {}
    for device in DEVICES:
        preferred = torch.linspace(-3, 3, 30, dtype=torch.float64, device=device)
        code = population.PoissonCode(population.GaussianTuning(preferred, 0.5, 10.0, 0.2))
        grid = torch.linspace(-2, 2, 101, dtype=torch.float64, device=device)
        counts = (draws(6, 30).abs() * 4).round().to(device)
        posterior = code.decode(counts, grid)
        found[device] = [posterior.mean, posterior.mass]
    agree(found)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("made", [attention.RNNSearch, attention.RNNEncoderDecoder])
def test_translation_models(made: type[attention.AbstractEncoderDecoder], fused: bool) -> None:
    sizes = {"attention": 8} if made is attention.RNNSearch else {}
    source = torch.tensor([[4, 5, 6, 7, 3], [8, 9, 3, 0, 0], [5, 3, 0, 0, 0]])
    target = torch.tensor([[9, 8, 3, 0], [5, 7, 6, 3], [4, 3, 0, 0]])
    found = {}
    for device in DEVICES:
        generator = torch.Generator().manual_seed(0)
        model = made(12, 13, embedding=8, hidden=8, maxout=8, fused=fused, **sizes)
        model = model.initialize("small", generator).double().to(device)
        loss = model.loss(source.to(device), target.to(device))
        loss.total.backward()
        forced = model.log_probs(source.to(device), target.to(device)).detach()
        found[device] = [loss.total.detach(), forced, *gradients(model)]
    agree(found)


def test_beam_search_finds_the_same_sentences() -> None:
    outputs = []
    for device in DEVICES:
        model = attention.RNNSearch(12, 13, embedding=8, hidden=8, attention=8, maxout=8)
        model.initialize("small", torch.Generator().manual_seed(0)).double().to(device).eval()
        source = torch.tensor([[4, 5, 6, 7, 3], [8, 9, 3, 0, 0]], device=device)
        found = attention.translate_ids(model, source, width=4, max_length=6)
        outputs.append([[h.ids for h in hypotheses] for hypotheses in found])
    assert outputs[0] == outputs[1]


def test_training_is_resumed_on_the_device(tmp_path: Path) -> None:
    def trained(run: Run | None, killed_at: int | None = None) -> list[Tensor]:
        net = torch.nn.Sequential(double_net(3, 1, "cuda"), torch.nn.Dropout(0.5))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)

        def batches(k: int) -> Tensor:
            if k == killed_at:
                raise KeyboardInterrupt
            return draws(8, 3, seed=k).cuda()

        def step(model, x):
            loss = model(x).square().mean()
            loss.backward()
            return {"loss": loss}

        train(net, optimizer, step, batches, steps=8, seed=0, run=run, checkpoint_seconds=0)
        return [p.detach().cpu() for p in net.parameters()]

    whole = trained(None)
    run = Run.open(tmp_path / "run", experiment="resumed", config={"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        trained(run, 5)
    run.close(None)
    run = Run.open(tmp_path / "run", experiment="resumed", config={"seed": 0})
    parts = trained(run)
    run.close("completed")
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_an_audit_of_a_signal_on_the_device() -> None:
    def loss(x: Tensor) -> Tensor:
        return (x - 1).square().sum(1)

    x = draws(64, 5).cuda()
    assert audit(lambda x: 2 * (x - 1), loss, x, cost=False).verdict.passed
    refused = audit(lambda x: 2 * (1 - x), loss, x, cost=False).verdict
    assert "flip the sign" in refused.reason
