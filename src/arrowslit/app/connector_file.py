"""`connector.toml`: a connector with several targets, read as a whole. Everything that is wrong is said at once."""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from arrowslit.app import toml_lines
from arrowslit.app.plan import Plan, TargetPlan, check_places
from arrowslit.app.problems import Problem, unusable
from arrowslit.connector.offer import MAX_CALLS
from arrowslit.connector.targets.sse import SseEndpoint, read_url
from arrowslit.connector.targets.stdio import MOST_PROCESSES, Command, read_command, runnable
from arrowslit.connector.targets.upstream.address import Endpoint
from arrowslit.errors import Error
from arrowslit.ids import check_name
from arrowslit.policy import ceiling as policy
from arrowslit.policy.ceiling import Ceiling
from arrowslit.policy.decide import echo

T = TypeVar("T")
Table = Mapping[str, object]

MOST_TARGETS = 32
MOST_DECLARED = 3072  # characters of names under read_only and idempotent, all together: a greeting has 8 KiB

_FILE = frozenset({"name", "targets"})
_TARGET = frozenset(
    {"name", "command", "url", "python", "pass_env", "environment", "authorization_env", "ceiling", "limits"}
)
_HINT = "see docs/connector.md for what a file may say"
_NO_FILE = "name a file that is there: --config FILE; docs/connector.md has one to begin with"
_OF_COMMANDS = ("python", "pass_env", "environment")
_LIMITS = {"calls": MAX_CALLS, "processes": MOST_PROCESSES}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYNTAX = re.compile(r"(?P<what>.*?) \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)", re.DOTALL)


def load(path: Path, *, environment: Mapping[str, str], python: str) -> Plan:
    """The plan in a file. `environment` is the connector's own. Raises Error `config_invalid` with all `problems`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Error("config_invalid", f"{path} cannot be read: {why}", hint=_NO_FILE) from error
    plan, problems = read(text, environment=environment, python=python)
    if plan is None:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        hint = f"nothing of it was applied; mend it, and look with: arrowslit connect --config {path} --check"
        raise unusable("config_invalid", f"{path} cannot be used: it has {count}", hint, problems)
    return plan


def read(text: str, *, environment: Mapping[str, str], python: str) -> tuple[Plan | None, list[Problem]]:
    """The plan in the text of a file, or None and everything that is wrong with it, in the order of the lines."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [_not_toml(error, text)]
    reader = _Reader(toml_lines.lines(text), environment, python)
    plan = reader.file(table)
    problems = sorted(reader.problems, key=lambda each: each.line or 0)
    return (None, problems) if problems else (plan, [])


class _Reader:
    """Reads every part, and notes what is wrong instead of stopping there."""

    def __init__(self, lines: Mapping[toml_lines.Path, int], environment: Mapping[str, str], python: str) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._environment = environment
        self._python = python

    def file(self, table: Table) -> Plan:
        self._known(table, (), _FILE)
        if "name" not in table:
            self._wrong((), "name is missing: the tunnel that this connector opens", 'write: name = "internal"')
        name = self._try(("name",), lambda: check_name(_text(table, "name", "tunnel"), what="tunnel name"))
        listed = table.get("targets", [])
        if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
            self._wrong(("targets",), "there is no target", "begin each one with a line [[targets]]")
            listed = []
        if len(listed) > MOST_TARGETS:
            self._wrong(("targets",), f"more than {MOST_TARGETS} targets", "start another connector, with a tunnel")
        targets = [self._target(each, ("targets", place)) for place, each in enumerate(listed)]
        self._unique(listed)
        self._announceable([each.ceiling for each in targets if each is not None])
        return Plan(name or "", [each for each in targets if each is not None])

    def _target(self, table: Table, at: toml_lines.Path) -> TargetPlan | None:
        before = len(self.problems)
        self._known(table, at, _TARGET)
        if "name" not in table:
            self._wrong(at, "the target has no name", 'write: name = "wiki"; agents ask for it by that name')
        name = self._try((*at, "name"), lambda: check_name(_text(table, "name", "target"), what="target name"))
        where = self._where(table, at)
        ceiling = self._ceiling(table, at)
        limits = self._limits(table, at, runs="command" in table)
        authorization = self._try((*at, "authorization_env"), lambda: self._authorization(table))
        if name is None or where is None or len(self.problems) > before:
            return None
        return TargetPlan(name, where, ceiling, limits["calls"], limits["processes"], authorization)

    def _where(self, table: Table, at: toml_lines.Path) -> Command | Endpoint | SseEndpoint | None:
        if ("command" in table) == ("url" in table):
            what = "both a command and a url" if "command" in table else "neither a command nor a url"
            self._wrong(at, f"the target has {what}", "give it one of them")
            return None
        if "url" in table:
            for key in _OF_COMMANDS:
                if key in table:
                    self._wrong((*at, key), f"{key} has a meaning for a command only", "leave it out beside url")
            return self._try((*at, "url"), lambda: read_url(_text(table, "url", "")))
        if "authorization_env" in table:
            hint = "leave it out, or pass the variable to the command with pass_env"
            self._wrong((*at, "authorization_env"), "authorization_env has a meaning for a url only", hint)
        more = self._try((*at, "environment"), lambda: _variables(table)) or {}
        names = self._try((*at, "pass_env"), lambda: self._passed(table)) or []
        python = self._try((*at, "python"), lambda: _text(table, "python", self._python)) or self._python
        given = {**self._environment, **more}
        return self._try(
            (*at, "command"),
            lambda: runnable(read_command(_command(table), python=python, environment=given, pass_env=[*names, *more])),
        )

    def _passed(self, table: Table) -> list[str]:
        """The names under pass_env, all of them set."""
        names = _texts(table, "pass_env")
        if missing := [name for name in names if name not in self._environment]:
            hint = "set it in the environment of the connector, or leave it out here"
            raise Error("validation_error", f"{', '.join(map(echo, missing))} is not set here", hint=hint)
        return names

    def _authorization(self, table: Table) -> str | None:
        if "authorization_env" not in table:
            return None
        name = _text(table, "authorization_env", "")
        value = self._environment.get(name, "").strip()
        if not value or not value.isprintable() or not value.isascii():
            hint = "set it to the whole header, for example: Bearer …"
            raise Error("validation_error", f"the variable {echo(name)} holds no Authorization header", hint=hint)
        return value

    def _ceiling(self, table: Table, at: toml_lines.Path) -> Ceiling:
        """The target's own; without one whatever the relay grants passes, which `connect` says at its start."""
        if "ceiling" not in table:
            return policy.OPEN
        held = self._try((*at, "ceiling"), lambda: _table(table, "ceiling"))
        if held is None:
            return policy.OPEN
        ceiling, flaws = policy.read(held)
        for flaw in flaws:
            self._note((*at, "ceiling", *([flaw.key] if flaw.key else [])), flaw.error)
        self._try((*at, "ceiling", "hosts"), lambda: check_places(ceiling))
        return ceiling

    def _limits(self, table: Table, at: toml_lines.Path, *, runs: bool) -> Mapping[str, int]:
        found = dict(_LIMITS)
        held = self._try((*at, "limits"), lambda: _table(table, "limits")) or {}
        self._known(held, (*at, "limits"), _LIMITS.keys())
        for key, most in _LIMITS.items():
            if key in held:
                found[key] = self._try((*at, "limits", key), partial(_count, held, key, most)) or most
        if "processes" in held and not runs:
            self._wrong((*at, "limits", "processes"), "only a command has processes", "leave it out beside url")
        return found

    # ------------------------------------------------------------ the file as a whole

    def _unique(self, listed: list[Table]) -> None:
        seen: set[str] = set()
        for place, each in enumerate(listed):
            name = each.get("name")
            if isinstance(name, str) and name in seen:
                self._wrong(("targets", place, "name"), f"another target is called {echo(name)}", "name each one apart")
            seen.add(str(name))

    def _announceable(self, ceilings: list[Ceiling]) -> None:
        declared = sum(len(tool) + 3 for each in ceilings for tool in (*each.read_only, *each.idempotent))
        if declared > MOST_DECLARED:
            message = f"read_only and idempotent hold {declared} characters, {MOST_DECLARED} is the most"
            self._wrong(("targets",), message, "declare only the tools that are to be tried again")

    # ------------------------------------------------------------ noting

    def _known(self, table: Table, at: toml_lines.Path, keys: Collection[str]) -> None:
        for key in sorted(table.keys() - set(keys)):
            near = difflib.get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(keys))}"
            self._note((*at, key), Error("unknown_field", f"unknown key {echo(key)}", hint=hint))

    def _wrong(self, at: toml_lines.Path, message: str, hint: str) -> None:
        self._note(at, Error("validation_error", message, hint=hint))

    def _try(self, at: toml_lines.Path, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Error as error:
            self._note(at, error)
            return None

    def _note(self, at: toml_lines.Path, error: Error) -> None:
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{echo(part)}" for part in at).removeprefix(".")
        line = toml_lines.line_of(at, self._lines)
        self.problems.append(Problem(line, key, error.code, error.message, error.hint or _HINT))


def _not_toml(error: Exception, text: str) -> Problem:
    match = _SYNTAX.fullmatch(str(error))
    line = None if match is None else int(match["line"] or len(text.splitlines()))
    what = match["what"] if match else "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Problem(line, "", "validation_error", f"this is not TOML: {what}", "mend it; then the rest can be checked")


def _text(table: Table, key: str, absent: str) -> str:
    value = table.get(key, absent)
    if not isinstance(value, str) or not value:
        what = "empty" if value == "" else "not text"
        raise Error("validation_error", f"{key} is {what}", hint=f'write: {key} = "…"')
    return value


def _texts(table: Table, key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise Error("validation_error", f"{key} is not a list of texts", hint=f'write: {key} = ["…", "…"]')
    return value


def _table(table: Table, key: str) -> Table:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise Error("validation_error", f"{key} is not a table", hint=f"write it under [targets.{key}]")
    return value


def _variables(table: Table) -> dict[str, str]:
    value = _table(table, "environment")
    if bad := [name for name, text in value.items() if not isinstance(text, str) or not _VARIABLE.fullmatch(name)]:
        hint = 'write: environment = { NAME = "text" }'
        raise Error("validation_error", f"{echo(bad[0])} is not a variable with a text", hint=hint)
    return {name: str(text) for name, text in value.items()}


def _command(table: Table) -> str:
    """The command in words, as `--target stdio:` has it; a list is taken word by word."""
    value = table["command"]
    if isinstance(value, list):
        return shlex.join(_texts(table, "command"))
    return _text(table, "command", "")


def _count(table: Table, key: str, most: int) -> int:
    value = table[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise Error("validation_error", f"{key} is not a whole number from 1 to {most}", hint=f"write: {key} = {most}")
    return value
