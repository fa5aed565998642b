"""Abuse of the record: a ledger that somebody changed, and words that would break a record, a log or a terminal."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arrowslit.ledger.chain import GENESIS, seal
from tests.cli.kit import at, invoke
from tests.harness import until
from tests.security.cases import case
from tests.security.walk import Things, furnish
from tests.security.world import World, of_kind, refusal
from tests.support.inprocess import in_process

CALLS = 6
TS = "2026-11-22T10:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Kept:
    """The state folder of a relay that stopped in order, and copies that somebody made while it ran."""

    state: Path
    earlier: Path
    another: Path

    @property
    def segment(self) -> Path:
        """The file of the ledger."""
        (found,) = (self.state / "ledger").glob("*.jsonl")
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledgers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kept]:
    """Real ones, as a relay wrote them."""
    folder = tmp_path_factory.mktemp("ledgers")
    for name in ("first", "another"):
        async with in_process(folder / name) as house:
            for _ in range(CALLS):
                await house.good_call()
            shutil.copytree(house.folder / "relay", folder / f"{name}-earlier")
            for _ in range(CALLS):
                await house.good_call()
    yield Kept(folder / "first" / "relay", folder / "first-earlier", folder / "another" / "relay")


@pytest.fixture
def kept(ledgers: Kept, tmp_path: Path) -> Kept:
    """A copy to spoil."""
    return Kept(Path(shutil.copytree(ledgers.state, tmp_path / "state")), ledgers.earlier, ledgers.another)


Lines = list[bytes]


def _edited(line: bytes, **change: object) -> bytes:
    return json.dumps(json.loads(line) | change, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def edit(kept: Kept, lines: Lines) -> int:
    lines[4] = _edited(lines[4], tenant="evil")
    return 5


def edit_what_was_done(kept: Kept, lines: Lines) -> int:
    at = next(index for index, line in enumerate(lines) if b'"outcome":"result"' in line)
    lines[at] = _edited(lines[at], outcome="denied")
    return at + 1


def delete(kept: Kept, lines: Lines) -> int:
    del lines[6]
    return 7


def delete_the_first(kept: Kept, lines: Lines) -> int:
    del lines[0]
    return 1


def reorder(kept: Kept, lines: Lines) -> int:
    lines[3], lines[4] = lines[4], lines[3]
    return 4


def reorder_and_renumber(kept: Kept, lines: Lines) -> int:
    lines[3], lines[4] = _edited(lines[4], seq=4), _edited(lines[3], seq=5)
    return 4


def insert(kept: Kept, lines: Lines) -> int:
    lines.insert(5, lines[5])
    return 6


def insert_at_the_end(kept: Kept, lines: Lines) -> int:
    lines.append(_edited(lines[-1], seq=len(lines) + 1))
    return len(lines)


def truncate(kept: Kept, lines: Lines) -> int:
    del lines[-3:]
    return len(lines) + 1


def empty(kept: Kept, lines: Lines) -> int:
    lines.clear()
    return 1


def an_earlier_ledger_under_this_head(kept: Kept, lines: Lines) -> int:
    (segment,) = (kept.earlier / "ledger").glob("*.jsonl")
    lines[:] = segment.read_bytes().splitlines(keepends=True)
    return len(lines) + 1


def another_ledger_under_this_head(kept: Kept, lines: Lines) -> int:
    (segment,) = (kept.another / "ledger").glob("*.jsonl")
    lines[:] = segment.read_bytes().splitlines(keepends=True)
    return len(lines)


def an_earlier_head(kept: Kept, lines: Lines) -> None:
    shutil.copy(kept.earlier / "ledger.head", kept.state / "ledger.head")


def the_head_of_another(kept: Kept, lines: Lines) -> None:
    shutil.copy(kept.another / "ledger.head", kept.state / "ledger.head")


def no_head(kept: Kept, lines: Lines) -> None:
    (kept.state / "ledger.head").unlink()


TAMPERS = [
    edit, edit_what_was_done, delete, delete_the_first, reorder, reorder_and_renumber, insert, insert_at_the_end,
    truncate, empty, an_earlier_ledger_under_this_head, another_ledger_under_this_head, an_earlier_head,
    the_head_of_another, no_head,
]  # fmt: skip


# No peer keeps heads for us: the head beside the ledger is the witness (P12 says "older than the last head"). Whoever
# puts back ledger and head together, as from a backup, is found by a copy elsewhere only: docs/security-model.md.
@pytest.mark.promise("P12")
@case("API-10", "tamper", {each.__name__.replace("_", " "): each for each in TAMPERS})
def test_whatever_was_done_to_a_ledger_is_found_and_named(
    kept: Kept, tamper: Callable[[Kept, Lines], int | None]
) -> None:
    assert invoke("ledger", "verify", "--state", str(kept.state), "--json").ok().json["ok"] is True
    lines = kept.segment.read_bytes().splitlines(keepends=True)
    assert len(lines) > 4 * CALLS
    wanted = tamper(kept, lines)
    kept.segment.write_bytes(b"".join(lines))

    found = invoke("ledger", "verify", "--state", str(kept.state), "--json")
    told = invoke("ledger", "verify", "--state", str(kept.state))

    assert (found.status, told.status) == (1, 1)
    assert found.json["error"]["code"] == "ledger_broken"
    assert found.json["first_bad"]["seq"] == wanted
    assert wanted is None or f"record {wanted} " in told.err


# ---------------------------------------------------------------- words

WORDS = {
    "a line end": 'evil\n{"kind":"outcome","outcome":"result"}',
    "a carriage return": "good\revil",
    "ANSI that clears": "\x1b[2J\x1b[1;1Hevil",
    "a link of OSC 8": "\x1b]8;;https://evil.example\x07click\x1b]8;;\x07",
    "a title of the window": "\x1b]0;evil\x07",
    "one byte that begins like ANSI": "\x9b2Jevil",
    "a formula of CSV": '=cmd|"/c calc"!A1',
    "a break-out of JSON": 'x","kind":"denied","tenant":"evil","y":"',
    "a line separator": "evil\u2028evil\u2029evil",
    "an override of direction": "evil\u202egnp.exe",
    "what cannot be seen": "ev\u200bil\u2066\ufeff",
    "a delete": "evil\x7f\x08\x08\x08",
}


def shown_plainly(text: str) -> bool:
    """Whether a terminal only shows this, and does nothing."""
    return all(each.isprintable() or each == "\n" for each in text)


def said_raw(here: World, word: str) -> bytes:
    """The status that answers a request without a credential whose headers hold the word as it is."""
    host, port = here.relay.url.removeprefix("http://").split(":")
    lines = ["GET /v1/relay HTTP/1.1", f"Host: {host}:{port}", f"User-Agent: {word}", f"X-Evil: {word}", "", ""]
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall("\r\n".join(lines).encode())
        return wire.recv(65_536).split(b" ")[1]


@pytest.mark.promise("P12")
@case("API-11", "word", {f"{name}, in a call": word for name, word in WORDS.items()})
def test_a_call_is_one_record_whatever_words_are_in_it(here: World, word: str) -> None:
    """In the name of a tool, in arguments, in an id and in headers, as far as those can hold it."""
    here.mcp("acme", "look", {})  # before the first call of all the relay looks at the tools, and records it
    until(lambda: here.records()[-1]["kind"] == "outcome", "that one ended")
    before, log = len(here.lines()), len(here.relay.log)
    assert said_raw(here, word) in (b"400", b"401")
    assert len(here.lines()) == before
    agent = [("user-agent", word.encode("unicode_escape").decode())]
    here.mcp("acme", word, {word: word}, headers=agent)
    here.mcp("acme", "look", {word: [word]}, headers=agent)
    lines = until(lambda: found if len(found := here.lines()[before:]) == 3 else None, "denied, asked, ended")

    assert [json.loads(line)["kind"] for line in lines] == ["denied", "asked", "outcome"]
    assert {json.loads(line).get("tenant", "acme") for line in lines} == {"acme"}
    assert shown_plainly(b"".join(lines).decode()), "a ledger can be read in a terminal"
    assert shown_plainly(here.relay.log[log:])
    invoke("ledger", "verify", "--state", str(here.relay.state)).ok()


@pytest.mark.promise("P12")
@case("API-11", "word", {f"{name}, in a tool that was granted": word for name, word in WORDS.items()})
def test_a_granted_tool_with_such_a_name_is_recorded_plainly(here: World, word: str) -> None:
    """A server may name its tools as it likes, and an administrator may copy that. The record of a call names it."""
    server = {"type": "tunnel", "tunnel_id": "tnl_notes", "tool_allowlist": [word]}
    made = here.ask("POST", "/v1/agents", {"name": "copied", "model": "none", "mcp_servers": [server]})
    if not made.is_success:
        assert refusal(made) == (400, "validation_error")
        return
    agent = made.json()["id"]
    key = here.ok("POST", "/v1/keys", {"agents": [agent], "tenant": "acme"})["key"]
    other = replace(here, agents={"acme": agent}, keys={"acme": key})
    before = len(here.lines())
    other.mcp("acme", word, {})
    other.rested("acme", other.session("acme", f"call {word} with {{}}"))
    lines = here.lines()[before:]

    assert word in [json.loads(line).get("tool") for line in lines]
    assert shown_plainly(b"".join(lines).decode()), "a ledger can be read in a terminal"
    for command in (("agent", "show", agent), ("tools", agent, "notes")):
        shown = invoke(*command, **at(here.relay, key if command[0] == "tools" else None)).ok()
        assert shown_plainly(shown.out + shown.err)


@pytest.fixture(scope="module")
def worker(here: World) -> Things:
    return furnish(here, "acme")


@pytest.mark.promise("P12")
@case("API-11", "word", {f"{name}, in the words of a worker": word for name, word in WORDS.items()})
def test_what_a_worker_says_is_one_record_and_steers_no_terminal(here: World, worker: Things, word: str) -> None:
    """Somebody else's words stand in the relay's ledger: below `said`, where they are no facts of the relay's."""
    path, key = f"/v1/work/{worker.ids['work_id']}/records", worker.keys["sessions token"]
    chain = [each for each in here.records() if each["kind"] == "said_by_worker"]
    seq, prev = (chain[-1]["said_seq"] + 1, chain[-1]["said_hash"]) if chain else (1, GENESIS)
    fields = {"argv": ["sh", "-c", word], "tenant": "evil", word: word}
    _, line_hash = seal("exec_start", fields, seq=seq, prev=prev, ts=TS)
    record = {"seq": seq, "prev": prev, "ts": TS, "kind": "exec_start", "hash": line_hash, "fields": fields}
    before = len(here.lines())
    assert here.ok("POST", path, {"records": [record]}, key=key)["stored"] == 1
    (line,) = here.lines()[before:]

    assert shown_plainly(line.decode()), "a ledger can be read in a terminal"
    assert json.loads(line)["kind"] == "said_by_worker"
    assert json.loads(line)["said"]["fields"] == fields
    assert "tenant" not in json.loads(line)


@case("API-11", "word", {f"{name}, in names": word for name, word in WORDS.items()})
def test_what_somebody_named_steers_no_terminal_of_an_operator(here: World, word: str) -> None:
    """A name that holds control characters is refused, or is shown without them."""
    tag = f"n{abs(hash(word)) % 10**8}"
    self_hosted = {"type": "self_hosted"}
    makes: list[tuple[str, dict[str, Any]]] = [
        ("/v1/agents", {"name": f"{tag} {word}", "model": "none", "description": word, "system": word}),
        ("/v1/keys", {"agents": [here.agents["acme"]], "tenant": "acme", "name": f"{tag} {word}"}),
        ("/v1/tunnels", {"name": tag, "display_name": f"{tag} {word}"}),
        ("/v1/environments", {"name": f"{tag} {word}", "description": word, "config": self_hosted}),
    ]
    for path, body in makes:
        made = here.ask("POST", path, body)
        assert made.is_success or made.json()["error"]["details"]["error_code"] in (
            "validation_error",
            "encoding_invalid",
        )

    for command in ("agent", "key", "tunnel", "environment"):
        listed = invoke(command, "list", **at(here.relay)).ok()
        assert shown_plainly(listed.out), command
        assert shown_plainly(listed.err), command
    for agent in here.ok("GET", "/v1/agents?limit=100")["data"]:
        if agent["name"].startswith(tag):
            assert shown_plainly(invoke("agent", "show", agent["id"], **at(here.relay)).ok().out)
    assert shown_plainly(here.relay.log)


@case("API-11", "word", {f"{name}, in a session": word for name, word in WORDS.items()})
def test_what_is_said_in_a_session_is_one_event_and_steers_no_terminal(here: World, word: str) -> None:
    """In metadata, in what a user says, and in what the model asks of a tool because of it; in a title if it may be."""
    before = len(here.lines())
    demand = f"say: {word}\ncall look with {json.dumps({'canary': word})}"
    session = here.session("acme", demand, metadata={"note": word})
    titled = here.ask("POST", f"/v1/sessions/{session}", {"title": word}, key=here.keys["acme"])
    events = here.rested("acme", session)
    asked = invoke("ask", here.agents["acme"], demand, **at(here.relay, here.keys["acme"])).ok()

    (use,) = of_kind("agent.mcp_tool_use", events)
    assert use["input"] == {"canary": word}
    assert titled.is_success or refusal(titled) == (400, "validation_error")
    for shown in (asked.out, asked.err):
        assert all(each.isprintable() or each in "\n\t" for each in shown)
    stream = here.ask("GET", f"/v1/sessions/{session}/events?limit=100", key=here.keys["acme"]).content
    assert b"\n" not in stream
    for line in here.lines()[before:]:
        assert shown_plainly(line.decode())
