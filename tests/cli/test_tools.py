"""`tools` and `call`: what a person sees of an answer, and which exit status a script can rely on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke
from tests.harness import Connector, Relay, until
from tests.support.lines import whole_lines
from tests.support.ports import free_port

SERVER = Path(__file__).with_name("servers.py")
TOOLS = ["fails", "refuses", "many", "slow", "dies"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "log"


@pytest.fixture(scope="module")
def odd(relay: Relay, log: Path) -> Iterator[dict[str, str]]:
    """The variables to call the tools of servers.py with, as the agent `odd` of the server `odd`."""
    tunnel = relay.tunnel("odd")
    key = relay.key(relay.agent("odd", tunnel, TOOLS), "acme")
    with Connector(relay, tunnel, f"stdio:{SERVER}", "--pass-env", "ODD_LOG", env={"ODD_LOG": str(log)}):
        yield at(relay, key)


def test_tools_shows_how_each_is_called(odd: dict[str, str]) -> None:
    lines = invoke("tools", "odd", "odd", **odd).ok().out.splitlines()

    assert "many count=INTEGER [flag=true|false] [names=JSON]" in lines
    assert "    Answer with several pieces." in lines
    assert "slow seconds=NUMBER" in lines
    found = invoke("tools", "odd", "odd", "--json", **odd).ok().json["tools"]
    assert [tool["name"] for tool in found] == TOOLS


@pytest.mark.promise("P6")
def test_only_what_was_allowed_is_listed(scene: Scene) -> None:
    scene.relay.agent("blind", scene.tunnel, [])
    key = scene.relay.key("blind", "acme")

    done = invoke("tools", "blind", "inventory", **at(scene.relay, key)).ok()

    assert done.out == ""
    assert "may use no tool" in done.err


def test_an_answer_is_printed_as_it_came_and_cannot_steer_the_terminal(odd: dict[str, str]) -> None:
    done = invoke("call", "odd", "odd", "many", "count=3", "flag=true", 'names=["a", "b"]', **odd).ok()

    assert done.out == "3 True ['a', 'b']\nsecond\\x1b[2J line\n[image image/png]\n"


def test_an_answer_in_json_is_whole(scene: Scene) -> None:
    done = invoke("call", "stock", "inventory", "echo", "canary=5", "--json", **at(scene.relay, scene.key)).ok()

    assert done.json["outcome"] == "result"
    assert done.json["result"]["structuredContent"] == {"canary": "5", "tenant": "acme"}


@pytest.mark.parametrize(
    "pairs",
    [[], ["canary"], ["canary=1", "colour=red"], ["canary=1", "delay_ms=soon"], ["canary=1", "canary=2"]],
    ids=" ".join,
)
def test_wrong_parameters_are_refused_before_anything_is_sent(pairs: list[str], scene: Scene) -> None:
    before = len(ledger(scene.relay, "tools/call"))

    done = invoke("call", "stock", "inventory", "echo", *pairs, **at(scene.relay, scene.key))

    assert (done.status, done.out) == (2, "")
    assert "hint: call it as: echo canary=STRING [delay_ms=INTEGER]" in done.err
    assert len(ledger(scene.relay, "tools/call")) == before


def test_a_tools_own_error_is_an_answer_with_status_1(odd: dict[str, str]) -> None:
    done = invoke("call", "odd", "odd", "fails", **odd)
    as_json = invoke("call", "odd", "odd", "fails", "--json", **odd)

    assert done.status == 1
    assert "the tool reports an error" in done.err
    assert "out of\\x1b[31m paper" in done.out
    assert as_json.status == 1
    assert (as_json.json["outcome"], as_json.json["result"]["isError"]) == ("result", True)


def test_a_servers_own_error_is_an_answer_with_status_1(odd: dict[str, str]) -> None:
    done = invoke("call", "odd", "odd", "refuses", **odd)
    as_json = invoke("call", "odd", "odd", "refuses", "--json", **odd)

    assert (done.status, done.out) == (1, "")
    assert done.err == "arrowslit: the server answers with an error: not on a Sunday\n"
    assert as_json.status == 1
    assert as_json.json["outcome"] == "result"
    assert as_json.json["error"]["code"] == -32042


@pytest.mark.promise("P6")
def test_a_tool_that_was_not_allowed_is_denied_by_the_relay_and_recorded(scene: Scene) -> None:
    done = invoke("call", "stock", "inventory", "hidden", "x=1", "--json", **at(scene.relay, scene.key))

    assert done.status == 1
    assert (done.json["outcome"], done.json["error"]["code"]) == ("denied", "tool_not_allowed")
    assert done.json["call_id"] in "".join(ledger(scene.relay, "denied"))


def test_a_call_without_a_tenant_is_denied(scene: Scene) -> None:
    done = invoke("call", "stock", "inventory", "echo", "canary=1", **at(scene.relay))  # an administrator has none

    assert done.status == 1
    assert "code: tenant_required, outcome: denied" in done.err


@pytest.mark.promise("P3")
def test_a_deadline_that_passes_while_the_tool_runs_leaves_the_outcome_unknown(odd: dict[str, str], log: Path) -> None:
    words = ["call", "odd", "odd", "slow", "seconds=20", "--deadline", "300ms"]

    done = invoke(*words, **odd)
    as_json = invoke(*words, "--json", **odd)

    assert (done.status, done.out) == (3, "")
    assert "code: outcome_unknown, outcome: outcome_unknown, call: call_" in done.err
    assert (as_json.status, as_json.json["outcome"]) == (3, "outcome_unknown")
    assert log.read_text().count("began") == 2


@pytest.mark.promise("P3")
def test_a_server_that_dies_in_the_middle_leaves_the_outcome_unknown(odd: dict[str, str]) -> None:
    done = invoke("call", "odd", "odd", "dies", **odd)

    assert done.status == 3
    assert "code: outcome_unknown" in done.err


def test_a_tunnel_without_a_connector_is_not_delivered(scene: Scene) -> None:
    relay = scene.relay
    relay.agent("alone", relay.tunnel("alone"), ["echo"])

    done = invoke("call", "alone", "alone", "echo", "canary=1", "--json", **at(relay, relay.key("alone", "acme")))

    assert done.status == 1
    assert (done.json["outcome"], done.json["error"]["code"]) == ("not_delivered", "no_connector")
    assert "safe to try again" in done.json["error"]["hint"]


@pytest.mark.promise("P3")
def test_a_relay_that_dies_during_a_call_leaves_the_outcome_unknown(tmp_path: Path, canary: str) -> None:
    with Relay(tmp_path) as relay:
        tunnel = relay.tunnel("inventory")
        variables = at(relay, relay.key(relay.agent("stock", tunnel, ["echo"]), "acme"))
        words = ["call", "stock", "inventory", "echo", "canary=1", "delay_ms=20000", "--json"]
        with Connector(relay, tunnel, canary), ThreadPoolExecutor() as threads:
            asked = threads.submit(relay.run, *words, env=variables)
            until(lambda: any("tools/call" in line for line in ledger(relay, "asked")), "the call has left")
            relay.kill()
            done = asked.result()

    assert done.status == 3
    assert (done.json["outcome"], done.json["error"]["code"]) == ("outcome_unknown", "outcome_unknown")
    assert done.err == ""


@pytest.mark.parametrize(
    ("words", "key", "code"),
    [
        (["tools", "stock", "inventory"], "asl_sk_wrong", "unauthenticated"),
        (["call", "stock", "inventory", "echo", "canary=1"], "asl_sk_wrong", "unauthenticated"),
        (["tools", "nobody", "inventory"], None, "agent_not_found"),
        (["tools", "stock", "nothing"], None, "server_not_found"),
        (["tools", "no/body", "inventory"], None, "bad_http"),
    ],
)
def test_what_never_became_a_call_has_its_code(words: list[str], key: str | None, code: str, scene: Scene) -> None:
    done = invoke(*words, "--json", **at(scene.relay, key or scene.key))

    assert (done.status, done.err) == (1, "")
    assert done.json["error"]["code"] == code
    assert "outcome" not in done.json


def test_a_key_of_another_agent_does_not_learn_that_this_one_exists(scene: Scene) -> None:
    relay = scene.relay
    relay.agent("other", scene.tunnel, ["echo"])

    foreign = invoke("tools", "stock", "inventory", "--json", **at(relay, relay.key("other", "acme")))
    absent = invoke("tools", "nobody", "inventory", "--json", **at(relay, relay.key("other", "acme")))

    assert foreign.json == absent.json


def test_nobody_at_the_address_is_said_as_such(scene: Scene) -> None:
    port = free_port()

    done = invoke("tools", "stock", "inventory", ARROWSLIT_RELAY=f"http://127.0.0.1:{port}", ARROWSLIT_API_KEY="k")

    assert done.status == 1
    assert "code: relay_unreachable" in done.err
    assert "hint: start it with: arrowslit serve" in done.err


def test_something_else_at_the_address_is_no_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        stop = threading.Event()
        threads.submit(_refuse_everything, listener, stop)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            looked = invoke("tools", "stock", "inventory", ARROWSLIT_RELAY=address, ARROWSLIT_API_KEY="k")
            listed = invoke("tunnel", "list", ARROWSLIT_RELAY=address, ARROWSLIT_API_KEY="k")
        finally:
            stop.set()

    for done in (looked, listed):
        assert done.status == 1
        assert "something answered 502 that is no relay" in done.err
        assert "code: relay_unreachable" in done.err


def _refuse_everything(listener: socket.socket, stop: threading.Event) -> None:
    listener.settimeout(0.05)
    while not stop.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n")


def ledger(relay: Relay, holding: str) -> list[str]:
    """The lines of the ledger that hold that text."""
    paths = sorted((relay.state / "ledger").glob("*.jsonl"))
    return [line for path in paths for line in map(bytes.decode, whole_lines(path)) if f'"{holding}"' in line]
