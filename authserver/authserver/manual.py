"""`authserver help`: pages that read like man pages, the man page, and bash's completion.

All of it is made from the commands' own parsers and from the table of settings.
"""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser

from authserver import __version__
from authserver.environment import APPCONFIG_DIR, SETTINGS

WIDTH = 79
ABOUT = "single sign-on for the accounts of a NAS or a small server"
FORM = (
    "Data goes to standard output, messages to standard error. Where a command asks first, --yes "
    "says yes; without a terminal and without it that is a refusal. Options that take several "
    "values are repeated."
)
EXIT_STATUS = (
    ("0", "done, also where nothing had to change"),
    ("1", "refused, or not found; creating what exists with other values"),
    ("2", "misused, or a bad setting; `oauth2 create`: there is one of that name"),
)
FILES = (
    (f"{APPCONFIG_DIR}/env", "settings, one file a variable; the environment goes before them"),
    ("/var/lib/authserver", "DATA_DIR: the SQLite file and secret_key"),
)
OPTIONS_OF_DJANGO = {
    "help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color",
    "force_color", "skip_checks",
}  # fmt: skip
USAGE = "authserver help [NOUN [VERB...] | --man | --bash]"


@dataclass
class Verb:
    """A command that can be run: `authserver user create`."""

    words: tuple[str, ...]
    parser: argparse.ArgumentParser
    usage: str
    about: str
    options: list[tuple[str, str]] = field(default_factory=list)


def nouns() -> list[str]:
    """This project's own commands, and the one of Django's that everybody needs."""
    own = (name for name, app in get_commands().items() if str(app).startswith("authserver."))
    return sorted([*own, "migrate"])


def parser_of(noun: str) -> tuple[BaseCommand, CommandParser]:
    command = load_command_class(str(get_commands()[noun]), noun)
    return command, command.create_parser("authserver", noun)


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of a parser. argparse keeps them in an action of its own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Its options and arguments, without those that all of Django's commands have."""
    return [
        action
        for action in parser._actions
        if action.dest not in OPTIONS_OF_DJANGO
        and not isinstance(action, argparse._SubParsersAction)
    ]


def verbs_of(words: tuple[str, ...], parser: argparse.ArgumentParser, about: str) -> Iterator[Verb]:
    """All that can be run below a parser."""
    below = subparsers_of(parser)
    for name, one in below.items():
        yield from verbs_of((*words, name), one, one.description or "")
    if below:
        return
    formatter = argparse.HelpFormatter(" ".join(words), width=10_000)
    actions = actions_of(parser)
    formatter.add_usage(None, actions, parser._mutually_exclusive_groups, prefix="")
    usage = " ".join(formatter.format_help().split()).replace("%(prog)s", " ".join(words))
    verb = Verb(words, parser, usage, about)
    for action in actions:
        if action.option_strings or action.help:
            text = formatter._expand_help(action) if action.help else ""
            verb.options.append((formatter._format_action_invocation(action), text))
    yield verb


def page_of(noun: str) -> tuple[str, list[Verb]]:
    """What a noun is for, and its verbs."""
    command, parser = parser_of(noun)
    about = " ".join(str(command.help).split())
    return about, list(verbs_of(("authserver", noun), parser, about))


# --- Text ----------------------------------------------------------------------------------------


def filled(text: str, indent: int, hanging: int = 0) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
        break_long_words=False,
    )


def text_of(noun: str, verbs: Sequence[str]) -> str:
    """The page of a noun, or of some of its verbs; raises LookupError where there is none."""
    if noun not in nouns():
        raise LookupError(noun)
    about, found = page_of(noun)
    wanted = ("authserver", noun, *verbs)
    found = [verb for verb in found if verb.words[: len(wanted)] == wanted]
    if not found:
        raise LookupError(" ".join((noun, *verbs)))
    lines = ["NAME", filled(f"authserver {noun} - {about}", 4, 4), "", "SYNOPSIS"]
    lines += [filled(verb.usage, 4, 8) for verb in found]
    lines += ["", "DESCRIPTION", filled(FORM, 4), ""]
    for verb in found:
        lines += ["    " + " ".join(verb.words), filled(verb.about, 8), ""]
        for name, text in verb.options:
            lines += [filled(name, 8, 4), *([filled(text, 12)] if text else [])]
        if verb.options:
            lines.append("")
    lines += ["EXIT STATUS", *(filled(f"{status}   {text}", 4, 4) for status, text in EXIT_STATUS)]
    return "\n".join(lines)


def summary() -> str:
    """What there is."""
    lines = ["NAME", f"    authserver - {ABOUT}", "", "SYNOPSIS"]
    lines += ["    authserver NOUN [VERB] ...", f"    {USAGE}", "", "COMMANDS"]
    for noun in nouns():
        lines += [f"    {noun}", filled(page_of(noun)[0], 8)]
    lines += [
        "",
        "EXIT STATUS",
        *(filled(f"{status}   {text}", 4, 4) for status, text in EXIT_STATUS),
    ]
    return "\n".join(lines)


# --- The man page --------------------------------------------------------------------------------


def roff(text: str) -> str:
    """A line of text for man(7): nothing in it is a request, and a hyphen can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def man_page() -> str:
    """authserver(8), in man(7)'s language."""
    lines = [f'.TH AUTHSERVER 8 "" "authserver {__version__}" "System Administration"']
    lines += [".SH NAME", roff(f"authserver - {ABOUT}"), ".SH SYNOPSIS"]
    lines += [".B authserver", roff("NOUN [VERB] ..."), ".SH DESCRIPTION", roff(FORM)]
    lines.append(".SH COMMANDS")
    for noun in nouns():
        about, verbs = page_of(noun)
        lines += [f".SS {roff(noun)}", roff(about)]
        for verb in verbs:
            lines += [".TP", f".B {roff(verb.usage)}", roff(verb.about)]
            if verb.options:
                lines.append(".RS")
                for name, text in verb.options:
                    lines += [".TP", roff(name), roff(text)]
                lines.append(".RE")
    lines += [".SH ENVIRONMENT", roff("An empty variable counts as unset. NAME_FILE names a file "
                                      "with a secret's value.")]  # fmt: skip
    for setting in SETTINGS:
        default = f" (default: {setting.default})" if setting.default else ""
        lines += [".TP", f".B {roff(setting.name)}", roff(setting.meaning + default)]
    for title, rows in (("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)):
        lines.append(f".SH {title}")
        for name, text in rows:
            lines += [".TP", f".B {roff(name)}", roff(text)]
    return "\n".join(lines)


# --- Completion ----------------------------------------------------------------------------------

SCRIPT = """\
# bash completion for authserver, made by `authserver help --bash`
_authserver() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}"
    local path="" words="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$path ${{COMP_WORDS[at]}}" in
            {paths}) path+=" ${{COMP_WORDS[at]}}" ;;
        esac
    done
    case "$path $before" in
{choices}
        *)
            case "$path" in
{words}
            esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _authserver authserver"""


def completion() -> str:
    """A script for bash: it knows every command, option and choice, and starts no program."""
    words = {"": [*nouns(), "help"]}
    choices: dict[str, list[str]] = {}

    def walk(path: str, parser: argparse.ArgumentParser) -> None:
        below = subparsers_of(parser)
        actions = actions_of(parser)
        options = [name for action in actions for name in action.option_strings]
        words[path] = [*below, *options]
        for action in actions:
            if not action.choices:
                continue
            texts = list(map(str, action.choices))
            for name in action.option_strings:
                choices[f"{path} {name}"] = texts
            if not action.option_strings:
                words[path] += texts
        for name, one in below.items():
            walk(f"{path} {name}", one)

    for noun in nouns():
        walk(f" {noun}", parser_of(noun)[1])
    words[" help"] = [*nouns(), "--man", "--bash"]

    def cases(found: dict[str, list[str]], indent: int) -> str:
        lines = (f'"{path}") words="{" ".join(texts)}" ;;' for path, texts in found.items())
        return "\n".join(" " * indent + line for line in lines)

    paths = "|".join(f'"{path}"' for path in words if path)
    return SCRIPT.format(paths=paths, choices=cases(choices, 8), words=cases(words, 12))


def run(arguments: Sequence[str]) -> None:
    """`authserver help ARGUMENTS`; raises LookupError for what there is no page of."""
    if not arguments:
        print(summary())
    elif list(arguments) == ["--man"]:
        print(man_page())
    elif list(arguments) == ["--bash"]:
        print(completion())
    else:
        print(text_of(arguments[0], arguments[1:]))
