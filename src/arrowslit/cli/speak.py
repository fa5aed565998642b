"""What is said to a person, and to a program with --json. Nothing that others wrote reaches a terminal unescaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click

from arrowslit.app.problems import problems
from arrowslit.errors import Error

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")


def answer(data: Mapping[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    """Print `data` as one line of JSON, or `lines` for a person."""
    if as_json:
        click.echo(json.dumps(data))
    else:
        for line in lines:
            click.echo(line)


def note(text: str) -> None:
    """Say something beside the answer."""
    click.echo(f"arrowslit: {text}", err=True)


def failed(error: Error, *, as_json: bool) -> int:
    """Say what went wrong and what to do next; returns the exit status."""
    if as_json:
        click.echo(json.dumps(failure(error)))
    else:
        click.echo("\n".join(_sentences(error)), err=True)
    return error.row.exit


def failure(error: Error) -> dict[str, object]:
    """An error for programs. `outcome` and `call_id` are there if it ended a call."""
    call: dict[str, object] = {} if error.row.outcome is None else {"outcome": error.row.outcome.value}
    if "call_id" in error.details:
        call["call_id"] = error.details["call_id"]
    listed = {"problems": error.details["problems"]} if "problems" in error.details else {}
    return {**call, "error": {"code": error.code, "message": error.message, "hint": error.hint, **listed}}


def _sentences(error: Error) -> Iterable[str]:
    yield f"arrowslit: {plain(error.message)}"
    for each in problems(error):
        yield f"  {plain(str(each))}"
        yield f"    {plain(each.hint or '')}".rstrip()
    if stderr := str(error.details.get("stderr", "")).strip():
        yield "the end of what it said:"
        yield from (f"  | {plain(line)}" for line in stderr.splitlines()[-20:])
    if error.hint:
        yield f"hint: {plain(error.hint)}"
    facts = [f"code: {error.code}"]
    if error.row.outcome is not None:
        facts.append(f"outcome: {error.row.outcome.value}")
    if "call_id" in error.details:
        facts.append(f"call: {plain(str(error.details['call_id']))}")
    yield ", ".join(facts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Columns under a head, as wide as they need to be."""
    shown = [head, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plain(text: str, keep: str = "") -> str:
    """`text` on one line and without a way to steer a terminal: what is not printable, or in `keep`, is escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escaped(each) for each in text)


def several(count: int, what: str) -> str:
    """`1 tool`, `2 tools`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
