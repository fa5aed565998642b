"""`arrowslit demo`: the whole loop on one machine, told in the terminal."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrowslit.app import config
from arrowslit.app.signals import signals
from arrowslit.cli import speak
from arrowslit.cli.help import Command
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.demo.telling import Teller


@click.command(cls=Command)
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, to try it by hand, until Ctrl-C.")
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="Where it keeps its things, from run to run."
)
@click.option(
    "--model",
    metavar="MODEL",
    default="scripted",
    show_default=True,
    help="What thinks for the agent: anthropic (with the key in ANTHROPIC_API_KEY), the URL of a server that speaks"
    " the Messages API, or the scripted one, which says that it is.",
)
@speak.json_option
def command(keep: bool, state: Path | None, model: str, as_json: bool) -> int:
    """Play the whole loop on this machine, and tell what happens and why.

    Starts PostgreSQL, a relay, a connector with a private stock server, and a sandbox worker; makes a tunnel, agents
    and keys of two tenants; then asks, is refused, cuts the tunnel, lets an agent ask, runs code that an agent writes,
    and checks the ledger. Needs no network and no other service, and stops all that it started. Exits with 0 if
    everything came out as promised.

    Examples:
      arrowslit demo
      arrowslit demo --keep
      arrowslit demo --json | jq 'select(.ok | not)'

    With --json, one object a step: `step`, `ok`, `outcome`, `detail`, `seconds`.

    Environment:
      XDG_STATE_HOME   its things are in the folder arrowslit-demo (for root: /var/lib/arrowslit-demo)
      NO_COLOR         if set, nothing is coloured
    """
    try:
        from arrowslit.demo.telling import Lines, Terminal  # these bring in PostgreSQL's and MCP's clients
    except ModuleNotFoundError as missing:
        what = f"what the demo needs is not installed: {missing.name}"
        raise Error("demo_failed", what, hint="install it: pip install 'arrowslit[demo]'") from None
    teller = Lines() if as_json else Terminal(plain="NO_COLOR" in config.environment())
    try:
        with _folder(state) as folder:
            return 0 if asyncio.run(_run(folder, teller, model, keep=keep)) else 1
    except Error as error:
        teller.failed(error)
        return error.row.exit
    except asyncio.CancelledError:  # by a signal
        raise KeyboardInterrupt from None


def _folder(state: Path | None) -> AbstractContextManager[Path]:
    from arrowslit.demo.folders import kept_if_possible

    return kept_if_possible() if state is None else nullcontext(state.absolute())


async def _run(folder: Path, teller: Teller, model: str, *, keep: bool) -> bool:
    """Whether all came out right. The first signal cancels it, and what was started is stopped in order."""
    from arrowslit.demo.stage import set_up
    from arrowslit.demo.story import play

    task = asyncio.current_task()
    assert task is not None
    over, leave = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        if not (over.is_set() or leave.is_set()):
            task.cancel()
        leave.set()

    with signals(stop):
        teller.begin()
        async with set_up(folder, teller.set_up, model) as stage:
            ok = await play(stage, teller.told)
            over.set()
            teller.end(stage, ok=ok)
            if keep:
                await stage.resume()
                teller.keep(stage)
                await leave.wait()
    return ok
