"""What the translation experiments share: two models and a half, one recipe, trainings kept in the run, translations."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.lab import Run, RunFolder, derive_seed, train

torch = lazy_import("torch")
attention = lazy_import("fingerpost.attention")

MODELS = {
    "search": "attention",
    "fixed": "fixed context, read both ways",
    "encdec": "fixed context, read forwards",
}
"""RNNsearch; the same with one context, attention the only difference; and the paper's RNNencdec."""
CHUNK = 100
"""Sentences that are measured at once."""
SAME = ("embedding", "hidden", "dropout", "epochs", "batch_size", "rate")
"""Settings that a model from another run must have been trained with."""


@dataclass(frozen=True)
class Recipe:
    """How one model is built, trained and searched; see the experiments' `Config` for the fields' meaning."""

    embedding: int
    hidden: int
    dropout: float
    epochs: int
    batch_size: int
    rate: float
    beam: int
    device: str
    bidirectional: bool = True
    reuse: str = ""


def recipe_of(config: Any) -> Recipe:
    """The recipe in an experiment's `Config`, whose fields have the same names."""
    shared = [name for name in Recipe.__dataclass_fields__ if hasattr(config, name)]
    return Recipe(**{name: getattr(config, name) for name in shared})


def check_least(config: Any, least: int, *names: str) -> None:
    """Raises ConfigError where one of the settings named is less."""
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least {least}")


def check_recipe(config: Any) -> None:
    """Raises ConfigError for settings that can't work; imports no torch."""
    check_least(config, 1, "embedding", "hidden", "epochs", "batch_size", "beam")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout is {config.dropout}; expected a probability, at least 0 and less than 1")
    if not config.rate > 0:
        raise ConfigError(f"rate is {config.rate}; a learning rate is above 0")


class Corpus(NamedTuple):
    """Pairs to train on, pairs held out to watch the training with, and how each side is cut into ids."""

    train: Any
    held: Any
    source: Any
    target: Any


class Stopwatch:
    """CPU seconds of a training over all its resumptions."""

    def __init__(self) -> None:
        self._before, self._since = 0.0, time.process_time()

    @property
    def seconds(self) -> float:
        """CPU seconds so far."""
        return self._before + time.process_time() - self._since

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes on from a checkpoint."""
        self._before, self._since = float(state["seconds"]), time.process_time()


def new_model(
    kind: str, source_size: int, target_size: int, recipe: Recipe, seed: int, **changes: Any
) -> Any:
    """One of `MODELS` with weights drawn from the seed alone; `changes` are arguments of the model that take precedence."""
    sizes: dict[str, Any] = {
        "embedding": recipe.embedding,
        "hidden": recipe.hidden,
        "maxout": recipe.hidden,
        "dropout": recipe.dropout,
        "bidirectional": kind != "encdec" and recipe.bidirectional,
    }
    made = attention.RNNEncoderDecoder
    if kind == "search":
        made, sizes["attention"] = attention.RNNSearch, recipe.hidden
    with torch.random.fork_rng(devices=[]):
        model = made.from_preset(source_size, target_size, "small", **{**sizes, **changes})
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    return model.initialize("small", generator).to(recipe.device)


def trained(
    kind: str,
    corpus: Corpus,
    recipe: Recipe,
    seed: int,
    run: Run,
    prefix: str = "",
    make: Callable[..., Any] = new_model,
) -> tuple[Any, Any]:
    """Trains one model, once in the run's life; its translator stands in the run's folder.

    `make` takes the arguments of `new_model` and gives what is trained; what is read back is of the library's own classes.

    With `reuse`, runs of the same experiment separated by commas, a model that one of them trained is taken from it: a
    cluster trains each seed in a job of its own, and one run more shows them together.

    Returns:
      The translator, and facts: ``curve`` as [epoch, held-out perplexity] pairs, ``updates``, ``words`` (target words a
      second of CPU time), ``cpu_seconds``, ``parameters``, ``pairs``, ``device``.

    Raises:
      ConfigError: If what would be taken was trained otherwise.
    """
    name = f"{prefix}{kind}-{seed}"

    def work() -> dict[str, Any]:
        taken = _taken(name, corpus, recipe, run)
        return taken or _train(kind, corpus, recipe, seed, run, name, make)

    facts = run.once(name, work)
    translator = attention.Translator.load(run.directory / name)
    translator.model.to(recipe.device).eval()
    return translator, facts


def _taken(name: str, corpus: Corpus, recipe: Recipe, run: Run) -> dict[str, Any] | None:
    """Copies a model that another run trained, and gives its facts; None if no run has it."""
    for given in filter(None, map(str.strip, recipe.reuse.split(","))):
        other = RunFolder(Path(given).expanduser())
        stage = other.directory / "stages" / f"{name}.json"
        if stage.is_file():
            facts = json.loads(stage.read_text())["result"]
            _check_taken(name, corpus, recipe, other, facts)
            shutil.copytree(other.directory / name, run.directory / name, dirs_exist_ok=True)
            return facts
    return None


def _check_taken(name: str, corpus: Corpus, recipe: Recipe, other: RunFolder, facts: dict[str, Any]) -> None:
    loaded = attention.Translator.load(other.directory / name)
    theirs = {key: other.manifest["config"].get(key) for key in SAME}
    sides = loaded.source_segmenter, loaded.target_segmenter
    theirs |= {"pairs": facts["pairs"], "words": [side.fingerprint for side in sides]}
    ours = {key: getattr(recipe, key) for key in SAME}
    ours |= {
        "pairs": len(corpus.train),
        "words": [side.fingerprint for side in (corpus.source, corpus.target)],
    }
    for key, value in ours.items():
        if theirs[key] != value:
            raise ConfigError(
                f"reuse: {other.directory} trained {name} with {key} = {theirs[key]!r}, and this run has {value!r}; name runs "
                "of the same settings and text"
            )


def _train(
    kind: str, corpus: Corpus, recipe: Recipe, seed: int, run: Run, name: str, make: Callable[..., Any]
) -> dict[str, Any]:
    encode = attention.EncodedPairs.encode
    pairs, held = (encode(text, corpus.source, corpus.target) for text in (corpus.train, corpus.held))
    model = make(kind, corpus.source.size, corpus.target.size, recipe, seed)
    batches = attention.Batches(pairs, size=recipe.batch_size, seed=derive_seed(seed, "batches"))
    per_epoch = batches.steps(0)
    updates, watch = recipe.epochs * per_epoch, Stopwatch()
    # fused on a GPU as on a processor: one kernel for all parameters
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: decay(k, updates))

    def step(model: Any, batch: Any) -> Mapping[str, Any]:
        loss = model.train().loss(batch.source.to(recipe.device), batch.target.to(recipe.device))
        mean = loss.total / loss.count
        mean.backward()
        return {"loss": mean.detach(), "count": loss.count}

    result = train(
        model, optimizer, step, batches, steps=updates, seed=seed, run=run, stage=name, scheduler=schedule,
        clip_norm=1.0, log_every=max(1, per_epoch // 10), throw=True, extra={"watch": watch},
        evaluate=lambda model: {"perplexity": held_out_perplexity(model, held, recipe)},
        evaluate_every=per_epoch, monitor="perplexity",
    )  # fmt: skip
    attention.Translator(model.cpu(), corpus.source, corpus.target).save(run.directory / name)
    curve = [[row["step"] / per_epoch, row["perplexity"]] for row in result.history if "perplexity" in row]
    words = recipe.epochs * int(pairs.target_lengths.sum())
    return {
        "curve": curve,
        "updates": result.steps,
        "cpu_seconds": watch.seconds,
        "words": words / watch.seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "pairs": len(pairs),
        "device": recipe.device,
    }


def decay(update: int, updates: int) -> float:
    """The learning rate over its start: level for the first half, then down to a twentieth, linearly."""
    return min(1.0, 0.05 + 1.9 * (1 - update / updates))


def held_out_perplexity(model: Any, pairs: Any, recipe: Recipe) -> float:
    """Perplexity of target words, ends of sentences among them."""
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for batch in attention.batches_in_order(pairs, size=CHUNK):
            loss = model.loss(batch.source.to(recipe.device), batch.target.to(recipe.device))
            total, count = total + float(loss.total), count + loss.count
    return attention.perplexity(total, count)


class Output(NamedTuple):
    """What was translated: lines, and their tokens joined by spaces, in which the tokenised scores are."""

    lines: list[str]
    tokens: list[str]

    def words(self, segmentation: str, tokenizer: Any) -> list[str]:
        """Lines with spaces between their words, whatever the model's own pieces are."""
        if segmentation == "words":
            return self.tokens
        return [" ".join(tokenizer.tokenize(line)) for line in self.lines]


def translations(translator: Any, lines: Sequence[str], recipe: Recipe) -> list[Any]:
    """The best `Translation` of each line."""
    return translator.translate(lines, width=recipe.beam, batch=CHUNK)


def output_of(found: Sequence[Any]) -> Output:
    """Lines and tokens of translations; the end of a sentence is no token."""
    tokens = [" ".join(t.target_words[:-1] if t.complete else t.target_words) for t in found]
    return Output([t.text for t in found], tokens)


def finite(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None
