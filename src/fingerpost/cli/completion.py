"""``fingerpost completion SHELL``: a script that completes commands, flags and experiment names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal

import tyro

from fingerpost.cli.commands import COMMANDS
from fingerpost.cli.flags import Help, flag_names, parse
from fingerpost.experiments import EXPERIMENTS

_HELP = Help(
    "completion",
    "Prints a script that completes fingerpost's commands, flags and experiments in your shell. "
    "It is fixed text: completing starts no Python.",
    "fingerpost completion bash >> ~/.bashrc\n"
    "fingerpost completion zsh >> ~/.zshrc\n"
    "fingerpost completion fish > ~/.config/fish/completions/fingerpost.fish",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost completion``."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell that you use."""


def main(arguments: list[str]) -> int:
    """Prints the script."""
    flags = parse(Flags, arguments, _HELP)
    print({"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[flags.shell]())
    return 0


def words_after(command: str) -> list[str]:
    """Lists what may follow a command: its flags, and the experiments where one is named."""
    flags = getattr(importlib.import_module(COMMANDS[command].module), "Flags", None)
    names = [*flag_names(flags), "--help"] if flags else ["--json", "--help"]
    if command in ("run", "sweep"):
        return [*EXPERIMENTS, *names]
    return [*(["bash", "zsh", "fish"] if command == "completion" else []), *names]


def bash_script() -> str:
    """Writes the script for bash; where nothing of ours fits, files are completed."""
    cases = "\n".join(f'    {name}) words="{" ".join(words_after(name))}" ;;' for name in COMMANDS)
    return f"""\
_fingerpost() {{
  local words=""
  case "$COMP_CWORD:${{COMP_WORDS[1]}}" in
    1:*) words="{" ".join(COMMANDS)} --help --version" ;;
    *) case "${{COMP_WORDS[1]}}" in
{cases}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _fingerpost fingerpost"""


def zsh_script() -> str:
    """Writes the script for zsh, with each command's summary beside it."""
    commands = "\n".join(f"    {_quote(f'{row.name}:{row.summary}')}" for row in COMMANDS.values())
    cases = "\n".join(f"    {name}) compadd -- {' '.join(words_after(name))} ;;" for name in COMMANDS)
    return f"""\
#compdef fingerpost
_fingerpost() {{
  local -a commands=(
{commands}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
{cases}
  esac
  _files
}}
compdef _fingerpost fingerpost"""


def fish_script() -> str:
    """Writes the script for fish, with each command's summary beside it."""
    lines = [
        f"complete -c fingerpost -n __fish_use_subcommand -a {row.name} -d {_quote(row.summary)}"
        for row in COMMANDS.values()
    ]
    for name in COMMANDS:
        seen = f"'__fish_seen_subcommand_from {name}'"
        for word in words_after(name):
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c fingerpost -n {seen} {what}")
    return "\n".join(lines)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
