"""Completion of the command line in bash, zsh and fish: commands, options, and values that an option allows.

The script that `apidae completion SHELL` prints holds all words, so that a TAB starts no program. It is printed again
after an upgrade. The words are a table: the path of a command, then what may follow it there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

PROGRAM: Final = "apidae"


class Shell(StrEnum):
    """Which script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What may follow a command's path: words with their help, and values by option; `*` for arguments. `takers` are
    options that take a value, whatever it is."""

    path: str
    words: dict[str, str]
    values: dict[str, tuple[str, ...]]
    takers: tuple[str, ...]


def list_places(command: Any, path: str = PROGRAM) -> Iterator[Place]:
    """Of a command and all below it, from Typer's command tree."""
    import typer

    context = typer.Context(command)
    inner = getattr(command, "commands", {})
    words = {name: _shorten(one.help) for name, one in inner.items()}
    values: dict[str, tuple[str, ...]] = {}
    takers: list[str] = []
    for parameter in command.get_params(context):
        is_option = parameter.param_type_name == "option"
        if is_option and parameter.hidden:
            continue
        names = [*parameter.opts, *parameter.secondary_opts] if is_option else ["*"]
        allowed = () if getattr(parameter, "is_flag", False) else _list_values(parameter, context)
        for name in names:
            if is_option:
                words[name] = _shorten(parameter.help)
            if allowed:
                values[name] = (*values.get(name, ()), *allowed)
            if is_option and not parameter.is_flag:
                takers.append(name)
    yield Place(path=path, words=words, values=values, takers=tuple(takers))
    for name, one in inner.items():
        yield from list_places(one, f"{path} {name}")


def _list_values(parameter: Any, context: Any) -> tuple[str, ...]:
    return tuple(str(item.value) for item in parameter.shell_complete(context, "") if item.type == "plain")


def _shorten(text: str | None) -> str:
    """The first sentence, without what a shell would take for its own."""
    sentence = " ".join((text or "").split()).partition(". ")[0].rstrip(".")
    return "".join(one for one in sentence if one.isalnum() or one in " -_/,.()=;")


def write_script(shell: Shell, places: list[Place]) -> str:
    """The script of a shell."""
    return {Shell.BASH: _write_bash, Shell.ZSH: _write_zsh, Shell.FISH: _write_fish}[shell](places)


_HEAD: Final = "# Completion of apidae. After an upgrade: apidae completion {shell}, again.\n"
# The walk is the same in bash and zsh: options are skipped with their values, other words are the path as long as it
# is one.
_BASH: Final = """\
_apidae() {
    local word previous path=apidae index
    local -A words values takers
%(table)s
    word=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD-1]}
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            -*) [[ " ${takers[$path]} " == *" ${COMP_WORDS[index]} "* ]] && ((index++)) ;;
            *) [[ -n ${words["$path ${COMP_WORDS[index]}"]+set} ]] && path="$path ${COMP_WORDS[index]}" ;;
        esac
    done
    if [[ -n ${values["$path $previous"]+set} ]]; then
        COMPREPLY=($(compgen -W "${values["$path $previous"]}" -- "$word"))
    elif [[ " ${takers[$path]} " == *" $previous "* ]]; then
        COMPREPLY=($(compgen -f -- "$word"))
    elif [[ $word == -* || -z ${values["$path *"]+set} ]]; then
        COMPREPLY=($(compgen -W "${words[$path]}" -- "$word"))
    else
        COMPREPLY=($(compgen -W "${values["$path *"]}" -- "$word"))
    fi
}
complete -o default -F _apidae apidae
"""
_ZSH: Final = """\
_apidae() {
    local path_now=apidae previous=${words[CURRENT-1]} index key
    local -A helps values takers
    helps=(
%(helps)s
    )
    values=(
%(values)s
    )
    takers=(
%(takers)s
    )
    for ((index = 2; index < CURRENT; index++)); do
        case ${words[index]} in
            -*) [[ " ${takers[$path_now]} " == *" ${words[index]} "* ]] && ((index++)) ;;
            *) key="$path_now ${words[index]}"; (( ${+helps[$key]} )) && path_now=$key ;;
        esac
    done
    key="$path_now $previous"
    local all="$path_now *"
    if (( ${+values[$key]} )); then
        compadd -- ${(s: :)values[$key]}
    elif [[ " ${takers[$path_now]} " == *" $previous "* ]]; then
        _files
    elif [[ ${words[CURRENT]} == -* ]] || (( ! ${+values[$all]} )); then
        local -a found
        found=(${(f)helps[$path_now]})
        _describe apidae found
    else
        compadd -- ${(s: :)values[$all]}
    fi
}
compdef _apidae apidae
"""


def _write_bash(places: list[Place]) -> str:
    lines = []
    for place in places:
        lines.append(f"    words[{_quote(place.path)}]={_quote(' '.join(place.words))}")
        if place.takers:
            lines.append(f"    takers[{_quote(place.path)}]={_quote(' '.join(place.takers))}")
        lines += [f"    values[{_quote(key)}]={_quote(values)}" for key, values in _list_allowed(place)]
    return _HEAD.format(shell="bash") + _BASH % {"table": "\n".join(lines)}


def _write_zsh(places: list[Place]) -> str:
    helps = [(place.path, "\n".join(f"{word}:{text}" for word, text in place.words.items())) for place in places]
    tables = {
        "helps": helps,
        "values": [pair for place in places for pair in _list_allowed(place)],
        "takers": [(place.path, " ".join(place.takers)) for place in places],
    }
    written = {
        name: "\n".join(f"        {_quote(key)} {_quote(text)}" for key, text in table)
        for name, table in tables.items()
    }
    return f"#compdef apidae\n{_HEAD.format(shell='zsh')}{_ZSH % written}"


def _list_allowed(place: Place) -> Iterator[tuple[str, str]]:
    """Path and option, and the values as words; one with a space would be two."""
    for option, values in place.values.items():
        yield f"{place.path} {option}", " ".join(one for one in values if " " not in one)


def _write_fish(places: list[Place]) -> str:
    lines = [_HEAD.format(shell="fish") + _FISH, "complete -c apidae -e", "complete -c apidae -f"]
    for place in places:
        condition = f"-n {_quote(f'__apidae_at {_quote_inner(place.path)}')}"
        for word, text in place.words.items():
            about = f"-d {_quote(text)}" if text else ""
            if not word.startswith("-"):
                lines.append(f"complete -c apidae {condition} -a {word} {about}")
                continue
            flag = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
            values = f" -a {_quote(' '.join(place.values[word]))}" if word in place.values else ""
            taking = f" -x{values}" if word in place.takers else ""
            if word in place.takers and not values:
                taking = " -r -F"
            lines.append(f"complete -c apidae {condition} {flag}{taking} {about}")
        if "*" in place.values:
            lines.append(f"complete -c apidae {condition} -a {_quote(' '.join(place.values['*']))}")
    lines.append(f"set -g __apidae_paths {' '.join(_quote(place.path) for place in places)}")
    takers = dict.fromkeys(name for place in places for name in place.takers)
    lines.append(f"set -g __apidae_takers {' '.join(takers)}")
    return "\n".join(lines) + "\n"


_FISH: Final = """\
function __apidae_at
    set -l path apidae
    set -l skips 0
    for word in (commandline -opc)[2..]
        if test $skips = 1
            set skips 0
        else if string match -q -- '-*' $word
            contains -- $word $__apidae_takers; and set skips 1
        else if contains -- "$path $word" $__apidae_paths
            set path "$path $word"
        end
    end
    test "$path" = "$argv"
end
"""


def _quote(text: str) -> str:
    """As one word of all three shells; `_shorten` and names have no quotes."""
    return "'" + text.replace("'", "") + "'"


def _quote_inner(text: str) -> str:
    return '"' + text + '"'
