from __future__ import annotations

import sys
from pathlib import Path

import pytest

from arrowslit.app import connector_file
from arrowslit.app.plan import Plan
from arrowslit.app.problems import Problem, problems
from arrowslit.connector.targets.stdio import Command
from arrowslit.errors import Error
from arrowslit.policy.ceiling import OPEN, Source

WHOLE = """
name = "internal"

[[targets]]
name = "stock"
command = ["cat", "a b"]
pass_env = ["STOCK_DSN"]
environment = { MODE = "quiet" }
[targets.ceiling]
tools = ["check_stock"]
tenants = ["*"]
read_only = ["check_stock"]
[targets.limits]
calls = 8
processes = 2

[[targets]]
name = "wiki"
url = "http://wiki.example.com:8000/mcp"
authorization_env = "WIKI_AUTHORIZATION"
"""
GIVEN = {"STOCK_DSN": "postgres://", "WIKI_AUTHORIZATION": "Bearer w", "PATH": "/usr/bin:/bin", "SECRET": "s"}
TARGET = 'name = "internal"\n[[targets]]\nname = "a"\ncommand = "cat"\n'


def read(text: str) -> tuple[Plan | None, list[Problem]]:
    return connector_file.read(text, environment=GIVEN, python=sys.executable)


def test_a_whole_file_says_what_runs_and_what_passes() -> None:
    plan, wrong = read(WHOLE)

    assert wrong == []
    assert plan is not None
    stock, wiki = plan.targets
    assert plan.name == "internal"
    assert isinstance(stock.where, Command)
    assert stock.where.argv == ("cat", "a b")
    assert dict(stock.where.environment) == {"STOCK_DSN": "postgres://", "MODE": "quiet", "PATH": "/usr/bin:/bin"}
    assert (stock.ceiling.source, "drop_stock" in stock.ceiling.tools) == (Source.FILE, False)
    assert (stock.calls, stock.processes) == (8, 2)
    assert wiki.shown == "http://wiki.example.com:8000/mcp"
    assert wiki.authorization == "Bearer w"
    assert "Bearer w" not in repr(wiki)
    assert wiki.ceiling == OPEN


@pytest.mark.parametrize(
    ("text", "line", "key", "code"),
    [
        ("", None, "", "validation_error"),
        ('name = "internal"', None, "targets", "validation_error"),
        ('name = "internal"\ntargets = []', 2, "targets", "validation_error"),
        ('name = "internal"\ntargets = [1]', 2, "targets", "validation_error"),
        ('name = "internal\n', 1, "", "validation_error"),
        ('name = "a"\nname = "b"', 2, "", "validation_error"),
        (TARGET.replace("internal", "In Ternal"), 1, "name", "validation_error"),
        (TARGET.replace('"internal"', "7"), 1, "name", "validation_error"),
        (TARGET.replace('"a"', '"a.b"'), 3, "targets[0].name", "validation_error"),
        (TARGET.replace('name = "a"\n', ""), 2, "targets[0]", "validation_error"),
        (TARGET.replace('command = "cat"\n', ""), 2, "targets[0]", "validation_error"),
        (TARGET + 'url = "http://a/"', 2, "targets[0]", "validation_error"),
        (TARGET + "comand = 1", 5, "targets[0].comand", "unknown_field"),
        (TARGET + 'pass_env = "PATH"', 5, "targets[0].pass_env", "validation_error"),
        (TARGET + 'pass_env = ["NOT_SET"]', 5, "targets[0].pass_env", "validation_error"),
        (TARGET + "environment = { A = 1 }", 5, "targets[0].environment", "validation_error"),
        (TARGET + 'environment = { "A=B" = "1" }', 5, "targets[0].environment", "validation_error"),
        (TARGET + 'authorization_env = "WIKI_AUTHORIZATION"', 5, "targets[0].authorization_env", "validation_error"),
        (TARGET.replace('"cat"', '"no-such-program"'), 4, "targets[0].command", "target_invalid"),
        (TARGET.replace('"cat"', '"./nowhere.py"'), 4, "targets[0].command", "target_invalid"),
        (TARGET.replace('"cat"', "[]"), 4, "targets[0].command", "target_invalid"),
        (TARGET.replace('"cat"', '"\'"'), 4, "targets[0].command", "target_invalid"),
        (TARGET.replace("command", "url"), 4, "targets[0].url", "target_invalid"),
        (TARGET.replace('command = "cat"', 'url = "http://127.1/mcp"'), 4, "targets[0].url", "target_invalid"),
        (TARGET + "[targets.ceiling]", 5, "targets[0].ceiling", "ceiling_invalid"),
        (TARGET + '[targets.ceiling]\ntools = ["a*"]', 6, "targets[0].ceiling.tools", "ceiling_invalid"),
        (TARGET + '[targets.ceiling]\ntool = ["a"]', 6, "targets[0].ceiling.tool", "ceiling_invalid"),
        (TARGET + "[targets.ceiling]\ntenants = 1", 6, "targets[0].ceiling.tenants", "ceiling_invalid"),
        (TARGET + '[targets.ceiling]\nhosts = ["a"]', 6, "targets[0].ceiling.hosts", "ceiling_invalid"),
        (TARGET + '[targets.ceiling]\nhosts = ["a:99999"]', 6, "targets[0].ceiling.hosts", "target_invalid"),
        (TARGET + "ceiling = 1", 5, "targets[0].ceiling", "validation_error"),
        (TARGET + "[targets.limits]\ncalls = 0", 6, "targets[0].limits.calls", "validation_error"),
        (TARGET + "[targets.limits]\nprocesses = true", 6, "targets[0].limits.processes", "validation_error"),
        (TARGET + "[targets.limits]\nprocess = 1", 6, "targets[0].limits.process", "unknown_field"),
        (TARGET + TARGET.partition("\n")[2], 6, "targets[1].name", "validation_error"),
        (
            TARGET + f"[targets.ceiling]\nidempotent = {[f'tool-{number:0>100}' for number in range(50)]}",
            2,
            "targets",
            "validation_error",
        ),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(text: str, line: int | None, key: str, code: str) -> None:
    plan, wrong = read(text)

    assert plan is None
    assert (line, key, code) in [(each.line, each.key, each.code) for each in wrong]
    assert all(each.hint for each in wrong)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "connector.toml"
    path.write_text(
        WHOLE.replace("stock", "St ock", 1).replace("processes = 2", "processes = 99").replace("url", "ulr")
    )

    with pytest.raises(Error) as raised:
        connector_file.load(path, environment=GIVEN, python=sys.executable)

    assert raised.value.code == "config_invalid"
    assert "3 problems" not in raised.value.message
    assert [str(each) for each in problems(raised.value)] == [
        "line 5, targets[0].name: 'St ock' is not a valid target name (validation_error)",
        "line 15, targets[0].limits.processes: processes is not a whole number from 1 to 64 (validation_error)",
        "line 17, targets[1]: the target has neither a command nor a url (validation_error)",
        "line 19, targets[1].ulr: unknown key ulr (unknown_field)",
    ]


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(Error) as raised:
        connector_file.load(tmp_path / "nowhere.toml", environment=GIVEN, python=sys.executable)

    assert raised.value.code == "config_invalid"
    assert "No such file" in raised.value.message
