"""The second stage: flags from dataclasses, with one-line errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from fingerpost.cli.commands import HelpShown
from fingerpost.cli.flags import Help, Switch, flag_names, parse, together
from fingerpost.cli.settings import as_words, config_from_mapping, peek
from fingerpost.errors import ConfigError

ABOUT = Help("thing", "Does a thing.", "fingerpost thing --rate 2")


@dataclass(frozen=True)
class Inner:
    momentum: float = 0.9
    nesterov: bool = False


@dataclass(frozen=True)
class Config:
    """Settings."""

    rate: float = 0.5
    """Rate in hertz."""
    widths: tuple[int, ...] = (1, 2)
    mode: Literal["a", "b"] = "a"
    data: Path | None = None
    big: bool = True
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Options:
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = "x"
    strict: Switch = False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--raet", "3"], "fingerpost thing has no flag --raet; did you mean '--rate'?"),
        (["--zzz"], "fingerpost thing has no flag --zzz; fingerpost thing --help lists the flags"),
        (["--inner.momentun", "3"], "did you mean '--inner.momentum'?"),
        (["stray"], "fingerpost thing does not expect 'stray'"),
        (["--rate", "fast"], "--rate"),
        (["--rate"], "--rate"),
        (["--mode", "c"], "'c'"),
        (["--widths", "1", "b"], "--widths"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(words, message):
    with pytest.raises(ConfigError) as caught:
        parse(Config, words, ABOUT)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not set("╭│─") & set(str(caught.value))


def test_a_missing_argument_is_named():
    @dataclass(frozen=True)
    class Two:
        run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
        """One."""
        over: tuple[str, ...]
        """Another."""

    with pytest.raises(ConfigError, match=r"^fingerpost thing needs RUN --over \(fingerpost thing --help\)$"):
        parse(Two, [], ABOUT)


def test_a_dataclass_that_refuses_its_values_is_a_wrong_command_line():
    @dataclass(frozen=True)
    class Positive:
        n: int = 1

        def __post_init__(self) -> None:
            if self.n <= 0:
                raise ValueError(f"n is {self.n}; it must be positive")

    with pytest.raises(ConfigError, match="n is -1; it must be positive"):
        parse(Positive, ["--n=-1"], ABOUT)


def test_help_shows_description_defaults_and_examples(capsys):
    with pytest.raises(HelpShown):
        parse(Config, ["--help"], ABOUT, default=Config(rate=7.5))
    out = capsys.readouterr().out
    assert all(
        text in out for text in ["Does a thing.", "Rate in hertz.", "7.5", "examples:\n  fingerpost thing"]
    )


def test_names_of_flags_are_those_that_parse_accepts():
    assert flag_names(Config) == [
        *["--rate", "--widths", "--mode", "--data", "--big", "--no-big"],
        *["--inner.momentum", "--inner.nesterov", "--inner.no-nesterov"],
    ]
    assert flag_names(Options) == ["--strict"]
    switched = parse(Config, ["--no-big", "--inner.nesterov"], ABOUT)
    assert (switched.big, switched.inner.nesterov) == (False, True)


def test_together_puts_two_dataclasses_flags_side_by_side():
    both = together(options=Options(), config=Config(rate=3.0))
    parsed = parse(type(both), ["me", "--strict", "--widths", "9"], ABOUT, default=both)
    assert (parsed.options, parsed.config) == (Options("me", True), Config(rate=3.0, widths=(9,)))
    assert flag_names(type(both)) == [*flag_names(Options), *flag_names(Config)]


def test_together_refuses_a_setting_that_hides_a_flag():
    @dataclass(frozen=True)
    class Clash:
        strict: int = 3

    with pytest.raises(ConfigError, match="has a field 'strict', which is a flag of Options already"):
        together(options=Options(), config=Clash())


def test_settings_written_as_words_are_read_back_equal():
    from dataclasses import asdict

    config = Config(-1e-30, (), "b", Path("a b/-c"), False, Inner(-2.0, True))
    values = asdict(config) | {"data": "a b/-c"}
    assert config_from_mapping(values, Config(), "file") == config
    assert config_from_mapping({"data": None}, config, "file").data is None
    assert as_words("learning_rate", 0.5) == ["--learning-rate=0.5"]


def test_a_file_with_an_unknown_or_wrong_setting_is_named():
    with pytest.raises(
        ConfigError, match=r"here.json has a setting 'raet', which is not one; did you mean 'rate'"
    ):
        config_from_mapping({"raet": 1}, Config(), "here.json")
    with pytest.raises(ConfigError, match=r"^here.json: .*--rate"):
        config_from_mapping({"rate": "fast"}, Config(), "here.json")


def test_peek_reads_a_flag_before_the_others_are_known():
    assert peek(["--a", "1", "--b=2", "--a", "3"], "--a") == "3"
    assert peek(["--a", "1", "--b=2"], "--b") == "2"
    assert peek(["--a"], "--a") is None
