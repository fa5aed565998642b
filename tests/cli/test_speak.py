from __future__ import annotations

import logging

import pytest

from arrowslit.cli import speak
from arrowslit.cli.logs import OneLine
from arrowslit.credential import CredentialKind, encode
from arrowslit.errors import CODES, Error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("check_stock", "check_stock"),
        ("Prüfung 東京 ☃", "Prüfung 東京 ☃"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("line\u2028separator", "line\\u2028separator"),
        ("\ud800", "\\ud800"),
    ],
)
def test_nothing_that_steers_a_terminal_gets_there(text: str, shown: str) -> None:
    assert speak.plain(text) == shown


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert speak.plain("one\n\ttwo\x1b", keep="\n\t") == "one\n\ttwo\\x1b"


@pytest.mark.parametrize("code", CODES)
def test_every_code_ends_the_program_as_its_row_says(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"usage": 2, "outcome_unknown": 3, "sandbox_unavailable": 125}.get(code, 1)

    assert speak.failed(Error(code, "it failed", hint="do this"), as_json=False) == expected

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"arrowslit: it failed\nhint: do this\ncode: {code}")


def test_an_error_in_json_carries_what_became_of_the_call() -> None:
    error = Error("timeout", "too late", call_id="call_1", seconds=3)

    assert speak.failure(error) == {
        "outcome": "timeout",
        "call_id": "call_1",
        "error": {"code": "timeout", "message": "too late", "hint": None},
    }


def test_the_words_of_a_dead_target_are_shown_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    words = "\n".join([*(f"line {number}" for number in range(40)), "KeyError: '\x1b[31mDSN'"])

    speak.failed(Error("target_failed", "server.py ended", hint="add --pass-env DSN", stderr=words), as_json=False)

    said = capsys.readouterr().err
    assert said.splitlines()[-3] == "  | KeyError: '\\x1b[31mDSN'"
    assert "line 39" in said
    assert "line 10\n" not in said


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert list(speak.table(["NAME", "ID"], [["inventory", "1"], ["a\nb", "22"]])) == [
        "NAME       ID",
        "inventory  1",
        "a\\nb       22",
    ]


def record(message: str, *values: object, name: str = "arrowslit.relay.accept") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "", 0, message, values, None)
    made.created = 1_795_341_600.5
    return made


def test_a_record_of_the_log_is_one_line() -> None:
    line = OneLine().format(record("refused: %s", "no\nERROR forged\x1b[0m"))

    assert line == "2026-11-22T10:00:00Z warning  refused: no\\nERROR forged\\x1b[0m"
    assert "uvicorn.error: x" in OneLine().format(record("x", name="uvicorn.error"))


@pytest.mark.parametrize("kind", CredentialKind)
def test_a_credential_does_not_get_into_the_log(kind: CredentialKind) -> None:
    line = OneLine().format(record("token %s", encode(kind, b"s" * 32)))

    assert line.endswith(f"token asl_{kind}_…")


def test_the_traceback_of_a_defect_is_indented_and_escaped() -> None:
    made = record("it broke")
    try:
        raise ValueError("bad\x1b[31m")
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)

    first, *rest = OneLine().format(made).splitlines()

    assert first.endswith("it broke")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    ValueError: bad\\x1b[31m"
