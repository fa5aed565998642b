"""The command of the second step (README, and the article that started this), word for word as one types it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from arrowslit.demo import inventory_mcp
from tests.harness import Program, Relay, environment

STEP_2 = "arrowslit connect --target stdio:./inventory_mcp.py --name internal-inventory --pass-env INTERNAL_DB_DSN"

# Root keeps its state in /var/lib, where a test has no business: there the installed script runs with another default.
ELSEWHERE = """
import pathlib, runpy, sys
from arrowslit.app import config
config.default_state = lambda home=pathlib.Path(sys.argv.pop(1)): home
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Typed(Program):
    """A command as it was typed in a folder, with these variables."""

    def __init__(self, typed: str, home: Path, env: dict[str, str]) -> None:
        super().__init__(home / "said", shlex.split(typed), env, home / "work")
        self._home = home

    def spawn(self) -> None:
        """See Program."""
        script, *words = self.words
        command = [str(Path(sys.executable).with_name(script)), *words]
        if os.geteuid() == 0:
            command = [sys.executable, "-c", ELSEWHERE, str(self._home / "state"), *command]
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._out_before, self._err_before = out.tell(), err.tell()
            env = environment(**self.env, XDG_STATE_HOME=str(self._home / "state"))
            self._process = subprocess.Popen(
                command, env=env, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def wait_ready(self) -> None:
        """See Program."""
        self.wait_for_out(".")


@dataclass(frozen=True, slots=True)
class Place:
    """A relay with the tunnel of step 1, and the folder with the server on the private side."""

    relay: Relay
    home: Path
    made: dict[str, str]

    def typed(self, command: str, **env: str) -> Typed:
        """Type a command there, with the relay's address in the environment."""
        return Typed(command, self.home, {"ARROWSLIT_RELAY": self.made["relay"], **env})

    def ask(self, sku: str) -> dict[str, object]:
        """`arrowslit call` as the agent's user."""
        words = ["call", "stock", "internal-inventory", "check_stock", f"sku={sku}", "--json"]
        said = self.relay.run(*words, key=self.made["key"]).ok().json
        return dict(said["result"]["structuredContent"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("step-2")
    (home / "work").mkdir()
    shutil.copy(inventory_mcp.__file__, home / "work")
    with Relay(home) as relay:
        made = relay.run("tunnel", "create", "internal-inventory", "--json").ok().json
        relay.run("agent", "create", "stock", "--tunnel", "internal-inventory", "--allow", "check_stock").ok()
        key = relay.run("key", "create", "--agent", "stock", "--tenant", "acme", "--json").ok().json["key"]
        yield Place(relay, home, {**made, "key": key})


@pytest.mark.parametrize("name", ["arrowslit", "claude-tunnel"])
def test_it_prints_the_tunnels_id_alone_and_serves(name: str, place: Place, stock_dsn: str) -> None:
    variable = "ARROWSLIT_TUNNEL_TOKEN" if name == "arrowslit" else "CLAUDE_TUNNEL_TOKEN"
    command = STEP_2.replace("arrowslit", name)
    with place.typed(command, **{variable: place.made["token"]}, INTERNAL_DB_DSN=stock_dsn) as connector:
        found = place.ask("GEAR12")

        assert connector.out == "tnl_internal_inventory\n"
        assert connector.stop() == 0
    assert found == {"sku": "GEAR12", "found": True, "quantity": 0, "restock_date": "2027-01-15"}
    assert place.made["token"] not in connector.log


def test_without_pass_env_it_shows_what_the_server_said_and_names_the_flag(place: Place, stock_dsn: str) -> None:
    command = STEP_2.removesuffix(" --pass-env INTERNAL_DB_DSN")
    assert command != STEP_2
    connector = place.typed(command, ARROWSLIT_TUNNEL_TOKEN=place.made["token"], INTERNAL_DB_DSN=stock_dsn)
    connector.spawn()

    assert connector.wait() == 1
    assert connector.out == ""
    assert "  | inventory_mcp: the environment variable INTERNAL_DB_DSN is not set" in connector.err
    assert "add --pass-env INTERNAL_DB_DSN" in connector.err
    assert stock_dsn not in connector.err
