"""What flow-images works with: the pictures, a classifier that judges, distances between sets of pictures, sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import ep_digits, ep_mnist
from fingerpost.lab import Run, derive_seed, minibatches, new_figure, train

torch = lazy_import("torch")
flow = lazy_import("fingerpost.flow")

CLASSES = 10
CHUNK = 256  # pictures sampled at once, which bounds the memory at 28×28


class Pictures(NamedTuple):
    """Pictures (N, 1, S, S) in [−1, 1] and labels (N,), to train on and held out."""

    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any

    def to(self, device: str, dtype: str) -> Pictures:
        """Moves the tensors, and the pictures to `dtype`."""
        kind = getattr(torch, dtype)
        x = [part.to(device=device, dtype=kind) for part in (self.train_x, self.test_x)]
        return Pictures(x[0], self.train_y.to(device), x[1], self.test_y.to(device))


def load(data: str, examples: int, tests: int, seed: int) -> Pictures:
    """A random split of scikit-learn's digits, or of the files that `data` names.

    Args:
      data: As in `ep_mnist`; empty for scikit-learn's digits.
      examples: Pictures to train on, at most.
      tests: Pictures held out.
      seed: Determines the split.

    Raises:
      ConfigError: If files are missing or wrong, or fewer pictures are left to train on than there are classes.
    """
    theirs: tuple[Any, Any] = (None, None)
    if data:
        x, y, *theirs = ep_mnist.images(data)  # pyright: ignore[reportAssignmentType]
        x, size = 2 * x - 1, 28
    else:
        x, y = ep_digits.digits()
        x, size = x - 1, 8
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(derive_seed(seed, "split")))
    test_x, test_y = x[order[:tests]], y[order[:tests]]
    if theirs[0] is not None:
        test_x, test_y = 2 * theirs[0][:tests] - 1, theirs[1][:tests]
    else:
        order = order[tests:]
    ours = order[:examples]
    if len(ours) < CLASSES or len(test_x) < tests:
        raise ConfigError(
            f"there are {len(x)} pictures; {len(test_x)} held out of {tests} asked for, and {len(ours)} to train on: "
            "lower --tests"
        )
    shape = (-1, 1, size, size)
    return Pictures(x[ours].view(shape), y[ours], test_x.view(shape), test_y)


def classifier(pictures: Pictures, updates: int, seed: int, run: Run | None = None) -> Any:
    """A small convolutional network trained on the real training pictures, in evaluation mode."""
    size = pictures.train_x.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        net = _judge(size).to(pictures.train_x)
    pick = minibatches(len(pictures.train_x), min(64, len(pictures.train_x)), derive_seed(seed, "judge"))

    def step(model: Any, index: Any) -> dict[str, Any]:
        index = index.to(pictures.train_y.device)
        loss = torch.nn.functional.cross_entropy(
            model.train()(pictures.train_x[index]), pictures.train_y[index]
        )
        loss.backward()
        return {"loss": loss}

    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    options: dict[str, Any] = {"scheduler": rates, "log_every": 50, "throw": True}
    train(net, optimizer, step, pick, steps=updates, seed=seed, run=run, stage="classifier", **options)
    return net.eval()


def _judge(size: int) -> Any:
    nn = torch.nn
    layers: list[Any] = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()]
    inputs = 16
    while size > 7:
        layers += [nn.Conv2d(inputs, 32, 3, stride=2, padding=1), nn.ReLU()]
        inputs, size = 32, (size + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(inputs * size * size, CLASSES))


def accuracy(net: Any, x: Any, labels: Any) -> float:
    """The fraction of pictures that the classifier reads as their labels."""
    with torch.no_grad():
        read = torch.cat([net(part).argmax(1) for part in x.split(CHUNK)])
    return float((read == labels).double().mean())


def noise(pictures: Pictures, seed: int, draw: int) -> Any:
    """Standard normal noise, one for each held-out picture, from (seed, draw) alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise", draw))
    return torch.randn(pictures.test_x.shape, generator=generator).to(pictures.test_x)


def samples(model: Any, x0: Any, labels: Any, **options: Any) -> Any:
    """Samples of `fingerpost.flow.sample` with these classes, in chunks; not clamped."""
    parts = zip(x0.split(CHUNK), labels.split(CHUNK))
    return torch.cat([flow.sample(model, noise, condition=given, **options) for noise, given in parts])


def nearest(x: Any, others: Any) -> Any:
    """The Euclidean distance of each picture to the nearest of the others, shape (N,)."""
    others = others.flatten(1)
    return torch.cat([torch.cdist(part, others).amin(1) for part in x.flatten(1).split(CHUNK)])


def spread(x: Any, labels: Any) -> float:
    """The variance within classes: Σ over pixels, averaged over pictures about their class's mean."""
    total = 0.0
    for label in labels.unique():
        part = x[labels == label].flatten(1).double()
        total += float((part - part.mean(0)).square().sum())
    return total / len(x)


def with_labels(pictures: Pictures, seed: int, draw: int) -> Any:
    """Training pictures with the held-out pictures' labels: as many of each class, repeated only where too few."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "same labels", draw))
    chosen = torch.empty_like(pictures.test_y)
    for label in pictures.test_y.unique():
        places = (pictures.test_y == label).nonzero().flatten()
        stock = (pictures.train_y == label).nonzero().flatten()
        if not len(stock):
            raise ConfigError(f"no training picture shows {int(label)}; raise --examples")
        order = torch.randperm(len(stock), generator=generator).to(stock)
        chosen[places] = stock[order[torch.arange(len(places), device=stock.device) % len(stock)]]
    return pictures.train_x[chosen]


def mosaic(x: Any, columns: int) -> Any:
    """Pictures (N, 1, S, S) side by side, with a gap of one pixel, as an array in [−1, 1]; NaN between them."""
    size = x.shape[-1]
    rows = -(-len(x) // columns)
    board = torch.full((rows * (size + 1) - 1, columns * (size + 1) - 1), float("nan"))
    for index, picture in enumerate(x.detach().cpu()):
        i, j = (place * (size + 1) for place in divmod(index, columns))
        board[i : i + size, j : j + size] = picture[0].clamp(-1, 1)
    return board.numpy()


def sheet(parts: dict[str, Any], rows: Sequence[str], columns: int, label: str) -> Any:
    """A figure of mosaics side by side; `rows` names the rows of each.

    Args:
      parts: Pictures by title, (rows · columns, 1, S, S), row by row.
      rows: What stands left of each row.
      columns: Pictures in a row.
      label: What the rows are.
    """
    width = 0.42 * columns * len(parts) + 1.2
    figure, axes = new_figure(1, len(parts), width=width, height=0.4 * len(rows) + 0.5, squeeze=False)
    for axis, (title, x) in zip(axes[0], parts.items()):
        size = x.shape[-1] + 1
        axis.imshow(mosaic(x, columns), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        axis.set_title(title)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.set_xticks([])
        axis.set_yticks([size * k + (size - 2) / 2 for k in range(len(rows))], rows)
        axis.tick_params(length=0)
    axes[0][0].set_ylabel(label)
    return figure


def some_of_each(x: Any, labels: Any, count: int) -> Any:
    """The first `count` pictures of each class, class by class; white where a class has fewer."""
    blank = -torch.ones_like(x[:1])
    parts = [x[labels == label][:count] for label in range(CLASSES)]
    return torch.cat([torch.cat([part, blank.repeat(count - len(part), 1, 1, 1)]) for part in parts])
