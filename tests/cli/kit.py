"""What the tests of the command line share: a command run inside this process, which is quick."""

from __future__ import annotations

import os

from click.testing import CliRunner

from arrowslit.cli.main import cli
from tests.harness import Done, Relay, environment


def invoke(*words: str, **variables: str) -> Done:
    """Run a command to its end in this process, steered by these variables alone. Raises what no user should see."""
    steering: dict[str, str | None] = {name: None for name in os.environ if name not in environment()}
    ended = CliRunner().invoke(cli, words, env=steering | variables, prog_name="arrowslit", catch_exceptions=False)
    return Done(ended.exit_code, ended.stdout, ended.stderr)


def at(relay: Relay, key: str | None = None) -> dict[str, str]:
    """The variables that let a command use this relay, as its administrator or with a key."""
    return {"ARROWSLIT_RELAY": str(relay.address), "ARROWSLIT_API_KEY": key or relay.admin_key}
