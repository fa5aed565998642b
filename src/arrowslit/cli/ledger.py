"""`arrowslit ledger`: look at the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrowslit.app import config
from arrowslit.cli import speak
from arrowslit.cli.help import Group
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.ledger.verify import Report


@click.group(cls=Group)
def command() -> None:
    """Look at the record of every call.

    Example:
      arrowslit ledger verify
    """


@command.command()
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="The relay's state folder.")
@speak.json_option
def verify(state: Path | None, as_json: bool) -> int:
    """Check that no record was changed, removed, added or moved. Reads the files; the relay may run or not.

    Exits with 1 and names the first record that is not what the relay wrote, if there is one.

    Examples:
      arrowslit ledger verify
      arrowslit ledger verify --state /var/lib/arrowslit --json

    Environment:
      XDG_STATE_HOME   the state is in its folder arrowslit (for root: /var/lib/arrowslit)
    """
    from arrowslit.app.state import held_signing_key  # cryptography is slow to import
    from arrowslit.ledger.verify import verify

    folder = state or config.default_state()
    key = held_signing_key(folder / "ledger.key")
    if key is None:
        raise Error("state_unusable", f"no relay keeps a ledger in {folder}", hint="name its state folder with --state")
    report = verify(folder / "ledger", folder / "ledger.head", key.public_key())
    if report.first_bad is None:
        speak.answer(_data(report), _told(report), as_json=as_json)
        return 0
    error = report.first_bad.error()
    if not as_json:
        return speak.failed(error, as_json=False)
    bad = {name: error.details[name] for name in ("seq", "file", "line")}
    found = {**_data(report), "first_bad": {**bad, "reason": report.first_bad.reason}, **speak.failure(error)}
    speak.answer(found, (), as_json=True)
    return error.row.exit


def _data(report: Report) -> dict[str, object]:
    return {
        "ok": report.ok,
        "records": report.records,
        "head": report.head,
        "newer": report.newer,
        "torn": report.torn,
    }


def _told(report: Report) -> Iterator[str]:
    yield f"{speak.several(report.records, 'record')}, every one as it was written; signed up to {report.head}"
    if report.newer:
        yield f"{report.newer} after that are chained, and not signed yet: the relay is writing, or was killed"
    if report.torn:
        yield f"{report.torn} bytes at the end are no whole record: the relay is writing, or was killed"
