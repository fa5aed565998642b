from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from arrowslit import __version__
from arrowslit.cli import main
from arrowslit.cli.main import COMMANDS, cli
from arrowslit.errors import Error
from tests.cli.kit import invoke

SLOW = ("uvloop", "uvicorn", "starlette", "sqlalchemy", "alembic", "httpx2", "mcp", "pydantic", "cryptography")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, by the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands())
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_says_what_it_does_with_an_example(path: tuple[str, ...]) -> None:
    done = invoke(*path, "--help").ok()

    assert f"Usage: arrowslit {' '.join(path)}" in done.out
    assert f"\n    arrowslit {' '.join(path)}" in done.out  # an example, on a line of its own
    _, _, listed = done.out.partition("\nCommands:\n")
    assert "...\n" not in listed, "a sentence was too long for the list of commands"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_names_its_variables_and_can_speak_json(path: tuple[str, ...]) -> None:
    text = invoke(*path, "--help").out

    assert "Environment" in text
    assert "--json" in text


def test_help_is_there_without_anything_slow() -> None:
    script = f"""
import sys
from arrowslit.cli.main import cli
try:
    cli.main(["--help"], prog_name="arrowslit")
except SystemExit as ended:
    assert ended.code == 0
print([name for name in {SLOW!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert all(name in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


def test_both_names_are_the_same_program() -> None:
    scripts = {script.name: script.value for script in importlib.metadata.distribution("arrowslit").entry_points}

    assert scripts["claude-tunnel"] == scripts["arrowslit"]


def test_it_calls_itself_as_it_was_called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/claude-tunnel", "connect", "--help"])

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("Usage: claude-tunnel connect")


def test_it_says_its_version() -> None:
    assert invoke("--version").ok().out == f"arrowslit {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--lisen", "127.0.0.1:1"], "No such option '--lisen'"),
        (["conect"], "No such command 'conect'"),
        (["connect", "--name", "inventory"], "Missing option '--target'"),
        (["tunnel", "create"], "Missing argument 'NAME'"),
        (["serve", "--listen", "here"], "'here' is not HOST:PORT"),
        (["serve", "--behind-proxy", "10.0.0.0/99"], "'10.0.0.0/99' is not a network"),
        (["serve", "--tls-cert", "relay.pem"], "--tls-cert and --tls-key belong together"),
        (["key", "create"], "a key is either for agents"),
        (["key", "create", "--register", "a-*", "--tenant", "acme"], "a key is either for agents"),
        (["tunnel", "rotate", "inventory", "--grace", "soon"], "'soon' is not a duration"),
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], said: str) -> None:
    done = invoke(*words)

    assert (done.status, done.out) == (2, "")
    first, *rest = done.err.splitlines()
    assert first.startswith("arrowslit: ")
    assert said in first
    assert "code: usage" in rest
    assert any(line.startswith("hint: ") for line in rest) or "belong together" in said

    as_json = invoke(*words, "--json")
    assert (as_json.status, as_json.err) == (2, "")
    assert as_json.json["error"]["code"] == "usage"
    assert said in as_json.json["error"]["message"]


@pytest.mark.parametrize("words", [[], ["tunnel"]])
def test_without_a_command_it_shows_what_there_is(words: list[str]) -> None:
    done = invoke(*words)

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("Usage: arrowslit")
    assert "Commands:" in done.err


def test_an_error_is_found_in_the_groups_that_task_groups_make(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Error("no_connector", "nobody is there", hint="wait")

    def fail(*_: object, **__: object) -> None:
        raise BaseExceptionGroup("unhandled", [ExceptionGroup("inner", [error])])

    monkeypatch.setattr(click.Group, "main", fail)
    done = invoke("tunnel", "list")

    assert done.status == 1
    assert done.err == "arrowslit: nobody is there\nhint: wait\ncode: no_connector, outcome: not_delivered\n"


def test_a_defect_is_not_taken_for_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("unhandled", [Error("no_connector", "nobody is there"), ZeroDivisionError()])

    monkeypatch.setattr(click.Group, "main", fail)

    with pytest.raises(ExceptionGroup):
        invoke("tunnel", "list")


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "invoke", interrupted)
    done = invoke("tunnel", "list")

    assert (done.status, done.out, done.err.strip()) == (130, "", "")
