"""Alignments scored where the truth is known: words in other orders, and words whose translation is decided further on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _attention_alignment_tasks as tasks
from fingerpost.experiments import _permutations as permutations
from fingerpost.experiments import _translation as translation
from fingerpost.lab import Run, derive_seed

models = lazy_import("fingerpost.experiments._attention_alignment_models")
measures = lazy_import("fingerpost.experiments._attention_alignment_measures")
results = lazy_import("fingerpost.experiments._attention_alignment_results")

VARIANTS = ("additive", "dot", "heads", "forward", "previous", "original")
READINGS = ("both", "forward", "backward", "ending", "late", "both-late")
NEEDED = ("both", "forward", "backward", "late")
"""Readings that claims compare, with the noun behind; with it before, the first two."""
SHOWN = ("both", "forward", "backward")
"""Readings whose alignments are drawn."""


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: First seed of trainings, and seed of the sentences.
      seeds: Trainings of each model, at least two: intervals are over them.
      words: Number of words of the reordered language; a sentence has each at most once.
      shortest: Fewest words of a training sentence.
      longest: Most words of a training sentence.
      measured: Lengths at which alignments are scored, in words; at least one trained on and one longer.
      tests: Sentences of each length, over all orders; and sentences with words that agree.
      variants: Which attentions align reordered sentences: additive, dot, heads, forward, previous, original.
      phrases: Most phrases of a sentence with words that agree.
      between: Most words between a word that agrees and its noun.
      readings: What encoders read where the noun stands behind: both, forward, backward, ending, late, both-late.
      mirrored: The same where the noun stands before.
      pairs: Training pairs of reordered sentences.
      agreeing: Training pairs of sentences with words that agree.
      held: Pairs that a training is watched with.
      embedding: Numbers of a word's embedding.
      hidden: Numbers of a state in each direction, of the layer of the attention and of the deep output.
      dropout: Probability with which numbers are left out in training.
      epochs: Passes over the training pairs.
      batch_size: Pairs of a training step.
      rate: Adam's learning rate at its start.
      beam: Width of the beam; 1 takes the best word each time.
      device: Where models are trained and translate.
      reuse: Runs, separated by commas, from which trained models are taken.
    """

    seed: int = 0
    seeds: int = 3
    words: int = 24
    shortest: int = 3
    longest: int = 12
    measured: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 18, 24)
    tests: int = 400
    variants: tuple[str, ...] = VARIANTS
    phrases: int = 3
    between: int = 4
    readings: tuple[str, ...] = READINGS
    mirrored: tuple[str, ...] = ("both", "forward")
    pairs: int = 115200
    agreeing: int = 76800
    held: int = 500
    embedding: int = 128
    hidden: int = 128
    dropout: float = 0.0
    epochs: int = 1
    batch_size: int = 128
    rate: float = 3e-3
    beam: int = 5
    device: str = "cpu"
    reuse: str = ""


PRESETS = {
    "quick": Config(
        words=16, longest=8, measured=(4, 6, 8, 12, 16), tests=300, variants=("additive", "dot"), phrases=2, between=3,
        readings=NEEDED, mirrored=("both", "forward"), pairs=12800, agreeing=12800, held=100, embedding=44, hidden=44,
        batch_size=32, rate=1e-2, beam=2,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    translation.check_recipe(config)
    if config.seeds < 2:
        raise ConfigError(f"seeds is {config.seeds}; intervals over trainings need at least 2")
    if not 2 <= config.shortest <= config.longest:
        raise ConfigError(
            f"shortest is {config.shortest} and longest {config.longest}; a sentence has at least two words"
        )
    lengths = config.measured
    trained = [n for n in lengths if config.shortest <= n <= config.longest]
    if (
        list(lengths) != sorted(set(lengths))
        or not trained
        or lengths[-1] <= config.longest
        or lengths[0] < 2
    ):
        raise ConfigError(
            f"measured is {lengths}; expected lengths of at least 2 that rise, one between shortest and longest and one above"
        )
    if config.words < lengths[-1]:
        raise ConfigError(
            f"words is {config.words}; a sentence of {lengths[-1]} words, each at most once, needs as many"
        )
    translation.check_least(config, 2, "tests", "pairs", "agreeing", "held", "phrases")
    if config.between < 1:
        raise ConfigError(f"between is {config.between}; it must be at least 1, or no noun is far")
    _check_names("variants", config.variants, VARIANTS, ("additive",))
    _check_names("readings", config.readings, READINGS, NEEDED)
    _check_names("mirrored", config.mirrored, READINGS, ("both", "forward"))


def _check_names(name: str, given: tuple[str, ...], known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    if not set(needed) <= set(given) <= set(known) or len(set(given)) < len(given):
        raise ConfigError(
            f"{name} is {given}; expected some of {', '.join(known)}, each once, with {', '.join(needed)} among them"
        )


def run(config: Config, run: Run) -> None:
    """Trains every model on either task, and scores alignments, words that agree and annotations."""
    found = results.Found()
    measure_orders(config, run, found)
    for side, names in zip(tasks.SIDES, (config.readings, config.mirrored)):
        measure_agreement(config, run, found, side, names)
    results.show(config, run, found)


def measure_orders(config: Config, run: Run, found: Any) -> None:
    """Alignments of every variant, on sentences in five orders."""
    corpus = orders_corpus(config)
    for name in config.variants:
        recipe = replace(translation.recipe_of(config), bidirectional=name != "forward")
        for seed in seeds_of(config):
            translator, facts = translation.trained(
                "search", corpus, recipe, seed, run, f"orders-{name}-", models.variant(name)
            )
            found.facts["orders", name, seed] = facts
            found.orders[name, seed] = run.once(
                f"aligned-{name}-{seed}", lambda t=translator: alignments(config, t.model)
            )
            if name == "additive" and seed == config.seed:
                found.maps = run.once("maps", lambda t=translator: maps(config, t.model))


def measure_agreement(config: Config, run: Run, found: Any, side: str, names: tuple[str, ...]) -> None:
    """Words that agree, by every reading; and what annotations of the first have read."""
    corpus, tests = agreement_corpus(config, side), agreement_tests(config, side)
    for name in names:
        reading = models.READINGS[name]
        recipe = replace(translation.recipe_of(config), bidirectional=reading.backward)
        for seed in seeds_of(config):
            translator, facts = translation.trained(
                "search", corpus, recipe, seed, run, f"{side}-{name}-", models.read_as(reading)
            )
            model = translator.model
            model.encoder = reading.encoder_of(model.encoder).eval()
            found.facts[side, name, seed] = facts
            found.agreement[side, name, seed] = run.once(
                f"agreement-{side}-{name}-{seed}",
                lambda model=model: measures.scored_agreement(model, tests, config.beam, config.device),
            )
            if side == "right":
                found.read[name, seed] = run.once(
                    f"read-{name}-{seed}", lambda model=model: reads(config, model.encoder)
                )
            if side == "right" and seed == config.seed and name in SHOWN:
                found.looks[name] = run.once(f"map-{name}", lambda model=model: look(config, model))


def seeds_of(config: Config) -> range:
    """The seeds of trainings."""
    return range(config.seed, config.seed + config.seeds)


# sentences


def orders_corpus(config: Config) -> translation.Corpus:
    """Sentences in five orders, each named by its first word: to train on, and to watch the training with."""
    lengths = (config.shortest, config.longest)
    made = [
        permutations.task(
            "random", count, lengths, config.words, derive_seed(config.seed, name), distinct=True
        )
        for name, count in (("train", config.pairs), ("held", config.held))
    ]
    sides = [permutations.segmenter_of(made[0]) for _ in range(2)]
    train, held = map(permutations.text_of, made)
    return translation.Corpus(train, held, *sides)


def orders_tests(config: Config, length: int) -> permutations.Task:
    """New sentences of one length, the same for every model."""
    seed = derive_seed(config.seed, f"test-{length}")
    return permutations.task("random", config.tests, (length, length), config.words, seed, distinct=True)


def agreement_corpus(config: Config, side: str) -> translation.Corpus:
    """Sentences with words that agree, to train on and to watch the training with."""
    made = [
        tasks.agreement(
            side, count, config.phrases, config.between, derive_seed(config.seed, f"{name}-{side}")
        )
        for name, count in (("train", config.agreeing), ("held", config.held))
    ]
    train, held = map(tasks.text_of, made)
    return translation.Corpus(train, held, *tasks.sides_of_text())


def agreement_tests(config: Config, side: str) -> tasks.Agreement:
    """New sentences, the same for every model."""
    seed = derive_seed(config.seed, f"test-{side}")
    return tasks.agreement(side, config.tests, config.phrases, config.between, seed)


# what is measured


def alignments(config: Config, model: Any) -> list[dict[str, Any]]:
    """Scores of each measured length and order."""
    return [
        row
        for length in config.measured
        for row in measures.scored_orders(model, orders_tests(config, length), config.beam, config.device)
    ]


def map_length(config: Config) -> int:
    """The length of the sentences that are drawn: the longest measured that was trained on."""
    return max(n for n in config.measured if n <= config.longest)


def maps(config: Config, model: Any) -> list[dict[str, Any]]:
    """Weights of one sentence of each order, the first among the tests that has it."""
    tests = orders_tests(config, map_length(config))
    names = permutations.names_of(tests.size)
    found = []
    for order in permutations.ORDERS:
        if order in tests.orders:
            place = tests.orders.index(order)
            sides = (tests.source[place], tests.target[place])
            words = [[names[word - permutations.SPECIAL] for word in ids[:-1]] + ["</s>"] for ids in sides]
            words[0][0] = order
            found.append(
                {
                    "order": order,
                    "weights": measures.map_of(model, tests, place, config.device),
                    "source": words[0],
                    "target": words[1],
                    "truth": tests.alignment[place],
                }
            )
    return found


def look(config: Config, model: Any) -> dict[str, Any]:
    """Weights of the first test sentence of the most words, the noun behind."""
    tests = agreement_tests(config, "right").task
    place = tests.source.index(max(tests.source, key=len))
    sides = ((tests.source[place], tasks.SOURCE_NAMES), (tests.target[place], tasks.TARGET_NAMES))
    source, target = (
        [names[word - permutations.SPECIAL] for word in ids[:-1]] + ["</s>"] for ids, names in sides
    )
    weights = measures.map_of(model, tests, place, config.device)
    return {"weights": weights, "source": source, "target": target, "truth": tests.alignment[place]}


def reads(config: Config, encoder: Any) -> list[list[list[float]]]:
    """‖∂h_j/∂x_k‖ of the onward and the backward half of annotations, for the first test sentence of the most words."""
    sources = agreement_tests(config, "right").task.source
    return measures.sensitivity(encoder, max(sources, key=len)).tolist()
