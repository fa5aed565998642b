from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from arrowslit.client.api import Api
from tests.cli.kit import at, invoke
from tests.e2e import plain
from tests.harness import Connector, Relay, environment, until


@dataclass(frozen=True, slots=True)
class Scene:
    """A relay whose model obeys; the agent `clerk` may look, and change something once somebody confirms it."""

    relay: Relay
    connector: Connector
    log: plain.Log
    key: str

    def ask(self, *words: str) -> subprocess.Popen[bytes]:
        """`arrowslit ask` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "arrowslit", "ask", *words],
            env=environment(**at(self.relay, self.key)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("ask")
    log = plain.Log(folder / "log")
    with Relay(folder, "--model", "obedient") as relay:
        tunnel = relay.tunnel("plain")
        words = ["create", "clerk", "--tunnel", "plain", "--allow", "look", "--confirm", "change", "--json"]
        agent = invoke("agent", *words, **at(relay)).ok().json["id"]
        body = {"agents": [agent], "tenant": "acme", "scopes": ["invoke", "confirm"]}
        with relay.client() as client:
            key = client.post("keys", body=body)["key"]
        with Connector(relay, tunnel, plain.over_stdio(log=log.path)) as connector:
            yield Scene(relay, connector, log, key)


def test_the_answer_is_on_stdout_and_the_rest_beside_it(scene: Scene) -> None:
    done = invoke("ask", "clerk", "say: three of them\ncall look with {}", **at(scene.relay, scene.key)).ok()

    assert "three of them" in done.out
    assert "-> plain.look {}" in done.err
    assert "--session sesn_" in done.err


def test_a_session_goes_on(scene: Scene) -> None:
    first = invoke("ask", "clerk", "say: one", "--json", **at(scene.relay, scene.key)).ok().json
    words = ("ask", "clerk", "say: two", "--session", first["session"], "--json")
    second = invoke(*words, **at(scene.relay, scene.key)).ok().json

    assert (second["session"], second["answer"]) == (first["session"], "(scripted model) (obedient) two")
    assert second["stop_reason"] == {"type": "end_turn"}


def test_without_a_terminal_nothing_is_confirmed(scene: Scene) -> None:
    scene.log.clear()
    done = invoke("ask", "clerk", "call change with {}", "--json", **at(scene.relay, scene.key)).ok()

    assert [tool["name"] for tool in done.json["tools"]] == ["change"]
    assert scene.log.calls == []


@pytest.mark.parametrize(("typed", "calls"), [(b"y\n", 1), (b"n\n", 0)])
def test_a_person_confirms_on_the_spot(typed: bytes, calls: int, scene: Scene) -> None:
    scene.log.clear()
    controller, terminal = pty.openpty()
    try:
        asked = subprocess.Popen(
            [sys.executable, "-m", "arrowslit", "ask", "clerk", 'call change with {"note": 7}'],
            env=environment(**at(scene.relay, scene.key)),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert asked.stderr is not None
        said = b""
        while b"[y/N]" not in said:
            piece = os.read(asked.stderr.fileno(), 4096)
            assert piece, said
            said += piece
        assert b'allow plain.change {"note": 7}?' in said
        os.write(controller, typed)
        asked.communicate(timeout=20)
    finally:
        os.close(controller)
        os.close(terminal)

    assert asked.returncode == 0
    assert len(scene.log.calls) == calls


def test_an_interrupt_ends_the_turn_and_a_second_one_the_command(scene: Scene) -> None:
    with scene.ask("clerk", 'call look with {"delay_ms": 60000}') as asked:
        assert asked.stderr is not None
        assert b"-> plain.look" in asked.stderr.readline()
        asked.send_signal(signal.SIGINT)
        _, err = asked.communicate(timeout=20)

    assert b"interrupting" in err
    assert asked.returncode == 3, err


def test_what_stayed_unconfirmed_is_said_and_exits_with_3(scene: Scene) -> None:
    invoke("ask", "clerk", "call look with {}", **at(scene.relay, scene.key)).ok()  # its tools are known
    scene.connector.stop()
    try:
        done = invoke("ask", "clerk", "call look with {}", "--json", **at(scene.relay, scene.key))
        told = invoke("ask", "clerk", "call look with {}", **at(scene.relay, scene.key))
    finally:
        scene.connector.start()

    (unconfirmed,) = done.json["unconfirmed"]
    assert (done.status, unconfirmed["server"], unconfirmed["tool"]) == (3, "plain", "look")
    assert unconfirmed["outcome"] == "not_delivered"
    assert done.json["answer"] == "I can't confirm that right now: there is no certain answer from look on plain."
    assert told.status == 3
    assert "not confirmed: look on plain: not_delivered, call_" in told.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nobody", "hello"], "agent_not_found"),
        (["clerk", " "], "usage"),
        (["clerk", "hello", "--session", "sesn_000000000000000000000000"], "session_not_found"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_refusal_keeps_its_code(words: list[str], code: str, scene: Scene) -> None:
    done = invoke("ask", *words, "--json", **at(scene.relay, scene.key))

    assert done.status in (1, 2)
    assert done.json["error"]["code"] == code


def test_what_others_wrote_steers_no_terminal(scene: Scene) -> None:
    done = invoke("ask", "clerk", "say: \x1b[2J gone", **at(scene.relay, scene.key)).ok()

    assert "\x1b" not in done.out + done.err
    assert "\\x1b[2J gone" in done.out


def test_an_agent_from_a_file(scene: Scene, tmp_path: Path) -> None:
    server = {"type": "tunnel", "tunnel_id": scene.connector.tunnel_id, "tool_allowlist": ["look"]}
    body = {"name": "filed", "model": "m", "instructions": "be brief", "mcp_servers": [server], "on_unknown": "tell"}
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(body))

    made = invoke("agent", "create", "--file", str(path), "--json", **at(scene.relay)).ok().json
    renamed = invoke("agent", "create", "other", "--file", str(path), "--json", **at(scene.relay)).ok().json

    assert (made["name"], made["system"], made["on_unknown"]) == ("filed", "be brief", "tell")
    assert renamed["name"] == "other"
    path.write_text("[]")
    assert invoke("agent", "create", "--file", str(path), **at(scene.relay)).status == 2


def test_what_waits_for_somebody_is_asked_about_before_the_new_question(scene: Scene) -> None:
    words = ["--session"]
    with scene.relay.client() as admin:
        agent = next(each for each in admin.every("agents") if each["name"] == "clerk")
    with Api(scene.relay.url, scene.key) as client:
        held = client.post("sessions", body={"agent": agent["id"]})["id"]
        message = {"type": "user.message", "content": [{"type": "text", "text": "call change with {}"}]}
        client.post("sessions", held, "events", body={"events": [message]})
        until(lambda: client.get("sessions", held)["status"] == "idle", "it waits")

        done = invoke("ask", "clerk", "say: mine", *words, held, "--json", **at(scene.relay, scene.key)).ok()

    assert done.json["answer"] == "(scripted model) (obedient) mine"
    assert done.json["messages"] == [done.json["answer"]]


def test_a_tool_that_only_an_application_runs_does_not_keep_anybody_waiting(scene: Scene) -> None:
    custom = {"type": "custom", "name": "page", "description": "d", "input_schema": {"type": "object"}}
    with scene.relay.client() as admin:
        admin.post("agents", body={"name": "pager", "model": "m", "tools": [custom]})
        key = admin.post("keys", body={"agents": ["pager"], "tenant": "acme"})["key"]

    done = invoke("ask", "pager", "call page with {}", "--json", **at(scene.relay, key)).ok()

    assert [tool["name"] for tool in done.json["tools"]] == ["page"]
    assert done.json["stop_reason"] == {"type": "end_turn"}
