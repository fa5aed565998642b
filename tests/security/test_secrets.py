"""API-08: every kind of secret is issued and used, rightly and wrongly; then nothing that is kept or told holds one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from arrowslit.credential import CredentialKind, encode, kind_of
from tests.cli.kit import at, invoke
from tests.e2e import plain
from tests.harness import Connector, Tunnel
from tests.security.cases import case
from tests.security.walk import furnish, nobodys, ways
from tests.security.world import MODEL_KEY, SECRET, World
from tests.support import leaks

PASSWORD = "hunter2-of-the-database-5b1f"
OF_THE_OWNER = ("root.key", "relay.key", "ledger.key", "admin.key")
"""Files of the state folder that hold a secret, for that is what they are for (0600)."""
PIECE = 24  # characters of a secret in a row: more than is ever shown of one


@dataclass(frozen=True, slots=True)
class Used:
    """A world in which everything was done that has to do with secrets, and what was heard of it."""

    world: World
    connectors: tuple[Connector, Connector]
    issued: tuple[str, ...]


@pytest.fixture(scope="module")
def used(here: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    folder = tmp_path_factory.mktemp("secrets")
    registration = here.ok("POST", "/v1/keys", {"register": "edge-*"})["key"]
    dsn = f"postgresql://inside:{PASSWORD}@127.0.0.1:1/inside"
    target = plain.over_stdio(log=folder / "edge.jsonl")
    edge = Tunnel("tnl_edge_1", "edge-1", registration)
    with Connector(
        here.relay, edge, target, "--pass-env", "INTERNAL_DB_DSN", folder=folder / "edge", env={"INTERNAL_DB_DSN": dsn}
    ) as registered:
        tenants_and_tunnels(here)
        a_worker(here)
        wrongly(here, sorted(here.issued))
        yield Used(here, (here.connector, registered), (*here.issued, registration, MODEL_KEY, PASSWORD))


def tenants_and_tunnels(here: World) -> None:
    """Keys that are made, minted, used and revoked; tokens that are revealed and rotated."""
    for tunnel in ("tnl_edge_1", "tnl_notes"):
        here.ok("POST", f"/v1/tunnels/{tunnel}/reveal_token", {})
    here.ok("POST", "/v1/tunnels", {"name": "rotated"})
    here.ok("POST", "/v1/tunnels/tnl_rotated/rotate_token", {"grace_seconds": 60})
    here.ok("POST", "/v1/tunnels/tnl_rotated/rotate_token", {"revoke": True})
    minted = here.mint("acme")
    here.mcp("acme", "look", {"canary": 1})
    here.rested("acme", here.session("acme", 'call look with {"canary": 1}'))
    here.ok("DELETE", f"/v1/keys/{minted['id']}", key=here.keys["acme"])
    here.refused("GET", "/v1/agents", key=minted["key"])


def a_worker(here: World) -> None:
    """A worker's key, and the token of the session that it was handed; with them and others all that can be read."""
    things = furnish(here, "acme")
    key, work = things.keys["environment key"], f"/v1/environments/{things.ids['environment_id']}/work"
    token = things.keys["sessions token"]
    here.issued |= {things.delivered: work, token: work}
    here.ok("POST", f"{work}/{things.ids['work_id']}/ack", {}, key=key)
    for way in ways(here):
        if way.method == "GET" and not way.path.endswith(("/stream", "/poll")):
            for kind in set(way.open_to) & set(things.keys):
                here.ask("GET", way.filled(things.ids), key=things.keys[kind])
    here.ok("POST", f"{work}/{things.ids['work_id']}/stop", {"force": True}, key=key)
    here.ask("GET", f"/v1/sessions/{things.ids['session_id']}", key=token)


def wrongly(here: World, secrets: list[str]) -> None:
    """Each secret where it does not belong: at each kind of door, cut short, altered, in a query, twice."""
    for secret in secrets:
        for key in (secret, secret[:-1], secret[:-1] + "!", secret.swapcase(), f"{secret}, {secret}"):
            here.ask("GET", "/v1/tunnels", key=key)
            here.ask("POST", "/mcp/nobody/nothing", {}, key=key)
            here.ask("GET", "/connect", key=key)
        for path in (f"/v1/tunnels?key={secret}", f"/v1/agents?page={secret}", f"/mcp/a/b?access_token={secret}"):
            here.ask("GET", path)
        for path in ("/v1/keys/{}", "/v1/sessions/{}", "/v1/tunnels/{}", "/v1/agents/{}", "/v1/calls/{}", "/v1/{}"):
            here.ask("GET", path.format(secret))
        here.ask("GET", "/v1/agents", headers=[("x-api-key", secret), ("cookie", f"key={secret}")])
        here.ask("POST", "/v1/sessions", {"agent": secret}, key=here.keys["acme"])
        here.ask("POST", "/v1/keys", {"agents": [secret]})
    for way in ways(here):
        ids = {name: nobodys("x_12345678") for name in (*way.names, *map(way.known_as, way.names))}
        here.ask(way.method, way.filled(ids), way.body, key=secrets[0])


def the_log_of_the_relay(used: Used) -> bytes:
    return used.world.relay.log.encode() + used.world.relay.out.encode()


def the_logs_of_connectors(used: Used) -> bytes:
    return "".join(each.log + each.out for each in used.connectors).encode()


def the_ledger(used: Used) -> bytes:
    return b"".join(used.world.lines())


def what_the_model_was_shown(used: Used) -> bytes:
    return json.dumps(used.world.model_log()).encode()


def what_servers_heard(used: Used) -> bytes:
    return used.world.log.path.read_bytes()


def the_text_of_the_database(used: Used) -> bytes:
    with sqlite3.connect(f"file:{used.world.relay.state / 'arrowslit.db'}?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        rows = [row for table in tables for row in database.execute(f'select * from "{table}"')]
    database.close()
    assert {"api_keys", "environment_keys", "work_tokens", "session_events", "tunnels"} <= set(tables)
    assert len(rows) > 30
    return repr(rows).encode()


def the_files_of_the_state(used: Used) -> bytes:
    paths = [path for path in used.world.relay.state.rglob("*") if path.is_file() and path.name not in OF_THE_OWNER]
    assert len(paths) > 4
    return b"\n".join(path.read_bytes() for path in paths)


def what_was_refused(used: Used) -> bytes:
    assert len(used.world.said) > 100
    return b"\n".join(used.world.said)


def titles_of_processes(used: Used) -> bytes:
    if not Path("/proc/self").is_dir():
        pytest.skip("titles of processes are read from /proc")
    titles = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            titles.append(path.read_bytes())
    assert any(b"connect\0--target" in each for each in titles)
    return b"\n".join(titles)


def what_commands_print(used: Used) -> bytes:
    """What an administrator sees without having asked for a secret."""
    relay = used.world.relay
    commands = ["key list --revoked", "agent list", "tunnel list", "tunnel status edge-1", "environment list"]
    done = [invoke(*command.split(), *more, **at(relay)).ok() for command in commands for more in ((), ("--json",))]
    done += [invoke("agent", "list", **at(relay, secret[:-1])) for secret in used.issued]
    return "".join(each.out + each.err for each in done).encode()


PLACES = [
    the_log_of_the_relay, the_logs_of_connectors, the_ledger, what_the_model_was_shown, what_servers_heard,
    the_text_of_the_database, the_files_of_the_state, what_was_refused, titles_of_processes, what_commands_print,
]  # fmt: skip


@case("API-08", "read", {each.__name__.replace("_", " "): each for each in PLACES})
def test_no_secret_is_kept_or_told_where_it_does_not_belong(used: Used, read: Callable[[Used], bytes]) -> None:
    text = read(used)

    assert text
    for secret in used.issued:
        body = re.sub(r"^asl_[a-z]+_", "", secret).encode()
        pieces = [body[at : at + PIECE] for at in range(0, max(1, len(body) - PIECE + 1), PIECE)]
        assert not [each for each in pieces if each in text], f"a part of {secret[:10]}…"


def test_every_kind_of_secret_was_issued(used: Used) -> None:
    """Else the test above would say nothing of it."""
    assert {kind_of(secret) for secret in used.issued if SECRET.fullmatch(secret)} == set(CredentialKind)
    assert PASSWORD in used.connectors[1].env["INTERNAL_DB_DSN"]
    assert used.world.relay.admin_key in (used.world.relay.state / "admin.key").read_text()
    assert used.world.relay.admin_key in used.issued


def test_nothing_that_the_suite_left_behind_holds_a_secret(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of all tests that ran before this one: their logs, ledgers and processes, whichever secrets they issued."""
    assert leaks.secrets_in(f"a {encode(CredentialKind.API_KEY, bytes(32))}, or one of the suite's, would be seen")
    assert list(leaks.left_behind(tmp_path_factory.getbasetemp())) == []
    assert leaks.seen == []
