from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import programs
import psutil
import pytest

from arrowslit.app.config import ConnectConfig, parse_relay
from arrowslit.app.connect import CALLS_FINISH
from arrowslit.errors import Error
from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke
from tests.harness import Connector, Program, Relay, Tunnel, until
from tests.support.ports import free_port
from tests.support.processes import below, of_each

SERVER = Path(__file__).with_name("servers.py")
ELSEWHERE = f"https://relay.example.com#sha256={'0' * 64}"


@pytest.fixture
def tunnel(relay: Relay, request: pytest.FixtureRequest) -> Tunnel:
    """A tunnel for this test alone."""
    return relay.tunnel("t" + request.node.name.split("[")[0].replace("_", "-")[-50:].strip("-"))


def test_the_tunnels_id_is_the_only_line_on_stdout(scene: Scene) -> None:
    assert scene.connector.out == "tnl_inventory\n"
    assert scene.connector.tunnel_id == scene.tunnel.id


def test_in_json_it_says_which_key_it_has(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    with Connector(relay, tunnel, canary, "--json", folder=tmp_path) as connector:
        said = json.loads(connector.out)

    assert said["id"] == tunnel.id
    assert said["pinned"] is True
    status = invoke("tunnel", "status", tunnel.name, "--json", **at(relay)).ok().json
    assert said["key_fingerprint"] == status["connector_key"]
    assert status["connector_key"] in connector.log


def test_the_other_name_of_the_token_works_as_well(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    variables = {"ARROWSLIT_TUNNEL_TOKEN": "", "CLAUDE_TUNNEL_TOKEN": tunnel.token}
    with Connector(relay, tunnel, canary, folder=tmp_path, env=variables) as connector:
        assert connector.out == f"{tunnel.id}\n"


def test_a_target_is_named_relative_to_where_one_is(relay: Relay, tunnel: Tunnel, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "server.py").write_text(SERVER.read_text())
    options = ["--pass-env", "ODD_LOG"]
    variables = {"ODD_LOG": str(tmp_path / "log")}
    with Connector(relay, tunnel, "stdio:./server.py", *options, folder=tmp_path, env=variables, cwd=work) as connector:
        assert connector.out == f"{tunnel.id}\n"


def test_a_target_that_dies_for_want_of_a_variable_is_told_how_to_get_it(
    relay: Relay, tunnel: Tunnel, tmp_path: Path
) -> None:
    connector = Connector(relay, tunnel, f"stdio:{SERVER}", folder=tmp_path, env={"ODD_LOG": str(tmp_path / "log")})
    connector.spawn()

    assert connector.wait() == 1
    assert connector.out == ""
    assert "  | KeyError: 'ODD_LOG'" in connector.err
    assert "hint: ODD_LOG is set here and was not passed to the target: add --pass-env ODD_LOG" in connector.err
    assert "code: target_failed" in connector.err
    assert "most recent call last" in connector.err  # the target's traceback, and not one of ours:
    assert "arrowslit/cli" not in connector.err


@pytest.mark.parametrize(
    "target", ["stdio:cat", "http://127.0.0.1:1/mcp", "https://wiki.example.com/mcp", "sse+http://127.0.0.1:1/sse"]
)
def test_a_target_is_checked_without_being_started_or_reached(target: str) -> None:
    checked = invoke("connect", "--check", "--name", "wiki", "--target", target, "--allow", "search", "--json").ok()

    assert checked.json["targets"][0]["target"] == target.removeprefix("stdio:")
    assert checked.json["targets"][0]["tools"] == ["search"]


def test_a_ceiling_that_lets_nobody_call_is_said_to(tmp_path: Path) -> None:
    ceiling = tmp_path / "ceiling.toml"
    ceiling.write_text('tools = ["search"]\n')

    checked = invoke("connect", "--check", "--name", "wiki", "--target", "stdio:cat", "--ceiling", str(ceiling)).ok()

    assert 'warning: the ceiling names no tenant, so nobody can call; tenants = ["*"] lets everybody' in checked.err


@pytest.mark.parametrize(
    "target", ["ftp://a/", "sse:http://a/", "cat", "stdio:", "stdio:./nowhere.py", "stdio:/nonexistent/server"]
)
def test_what_is_no_target_is_refused_by_the_check(target: str) -> None:
    refused = invoke("connect", "--check", "--name", "wiki", "--target", target, "--json")

    assert (refused.status, refused.json["error"]["code"]) == (1, "target_invalid")


@pytest.mark.parametrize("flag", [("--target", "stdio:cat"), ("--name", "a"), ("--allow", "b"), ("--pass-env", "C")])
def test_a_file_stands_alone(flag: tuple[str, str]) -> None:
    refused = invoke("connect", "--config", "connector.toml", *flag)

    assert refused.status == 2
    assert "--config stands alone" in refused.err


@pytest.mark.promise("P1")
def test_nothing_listens_at_the_private_side(scene: Scene) -> None:
    private = psutil.Process(scene.connector.pid)

    def sockets() -> list[str]:
        found = of_each([private, *below(private.pid)], lambda each: each.net_connections("inet"))
        return [each.status for process in found for each in process]

    assert psutil.CONN_ESTABLISHED in sockets()
    assert psutil.CONN_LISTEN not in sockets()
    assert psutil.CONN_NONE not in sockets()  # a UDP socket


def test_without_a_ceiling_it_warns_and_with_one_it_does_not(
    scene: Scene, tunnel: Tunnel, canary: str, tmp_path: Path
) -> None:
    with Connector(scene.relay, tunnel, canary, "--allow", "echo", folder=tmp_path) as connector:
        status = invoke("tunnel", "status", tunnel.name, **at(scene.relay)).ok().out

    assert "warning  ceiling: none" in scene.connector.log
    assert "ceiling: none" not in connector.log
    assert "ceiling: none" not in status
    assert "ceiling --allow" in status


@pytest.mark.promise("P6")
def test_what_the_ceiling_does_not_list_is_denied(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    (tmp_path / "ceiling.toml").write_text('tools = ["echo"]\ntenants = ["acme"]\n')
    agent = relay.agent("bounded", tunnel, ["echo"])
    words = ["call", "bounded", tunnel.name, "echo", "canary=1", "--json"]
    with Connector(relay, tunnel, canary, "--ceiling", str(tmp_path / "ceiling.toml"), folder=tmp_path):
        invoke(*words, **at(relay, relay.key(agent, "acme"))).ok()
        done = invoke(*words, **at(relay, relay.key(agent, "globex")))

    assert done.status == 1
    assert (done.json["outcome"], done.json["error"]["code"]) == ("denied", "denied_by_ceiling")


@pytest.mark.parametrize("content", [None, "", "tols = []\n"], ids=["missing", "empty", "misspelt"])
def test_a_ceiling_that_cannot_be_read_starts_nothing(content: str | None, relay: Relay, tmp_path: Path) -> None:
    ceiling = tmp_path / "ceiling.toml"
    if content is not None:
        ceiling.write_text(content)
    connector = Connector(
        relay, Tunnel("tnl_any", "any", "token"), "http://127.0.0.1:1/mcp", "--ceiling", str(ceiling), folder=tmp_path
    )
    connector.spawn()

    assert connector.wait() == 1
    assert "code: ceiling_invalid" in connector.err


# ---------------------------------------------------------------- what stands in the way


def test_a_wrong_token_ends_it_at_once(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    connector = Connector(relay, tunnel, canary, folder=tmp_path, env={"ARROWSLIT_TUNNEL_TOKEN": relay.admin_key})
    connector.spawn()

    assert connector.wait() == 1
    assert connector.out == ""
    assert "code: connector_unauthenticated" in connector.err
    assert "hint: " in connector.err
    assert "Traceback" not in connector.err


def test_a_wrong_token_is_said_in_json_on_stdout(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    wrong = {"ARROWSLIT_TUNNEL_TOKEN": "asl_tun_wrong"}
    connector = Connector(relay, tunnel, canary, "--json", folder=tmp_path, env=wrong)
    connector.spawn()

    assert connector.wait() == 1
    assert json.loads(connector.out)["error"]["code"] == "connector_unauthenticated"


def test_a_token_of_another_tunnel_ends_it(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    connector = Connector(relay, Tunnel("tnl_other", "other", tunnel.token), canary, folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: registration_refused" in connector.err


def test_another_relay_than_the_one_that_was_named_is_not_trusted(
    relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path
) -> None:
    wrong = f"{relay.url}#sha256={'0' * 64}"
    connector = Connector(relay, tunnel, canary, "--relay", wrong, folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: relay_not_trusted" in connector.err


@pytest.mark.parametrize(
    ("words", "variables", "code", "status"),
    [
        ([], {"ARROWSLIT_RELAY": ELSEWHERE.partition("#")[0]}, "insecure_relay", 1),
        ([], {"ARROWSLIT_RELAY": ELSEWHERE.replace("https", "http")}, "insecure_relay", 1),
        (["--relay", "http://relay.example.com"], {}, "insecure_relay", 1),
        (["--relay", "relay.example.com"], {}, "usage", 2),
        (["--relay", f"{ELSEWHERE}0"], {}, "usage", 2),
        (["--health", "0.0.0.0:9090"], {}, "insecure_listen", 1),
        (["--health", "9090"], {}, "usage", 2),
        (["--allow", "echo", "--ceiling", "file"], {}, "usage", 2),
        (["--name", "Not a name"], {}, "validation_error", 1),
    ],
)
def test_what_is_unsafe_or_makes_no_sense_is_refused_before_anything_starts(
    words: list[str], variables: dict[str, str], code: str, status: int, home: Path
) -> None:
    command = ["connect", "--name", "any", "--target", "http://127.0.0.1:1/mcp", *words]

    done = invoke(*command, "--json", **variables)

    assert (done.status, done.err) == (status, "")
    assert done.json["error"]["code"] == code
    assert not home.exists()


@pytest.mark.parametrize(
    "target",
    [
        "ftp://127.0.0.1/",
        "stdio:",
        "stdio:./nothing.py",
        "stdio:/nonexistent/server",
        "http://user:secret@127.0.0.1/mcp",
    ],
)
def test_a_target_that_cannot_be_is_refused(target: str, relay: Relay, tmp_path: Path) -> None:
    connector = Connector(relay, Tunnel("tnl_any", "any", "token"), target, folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: target_invalid" in connector.err
    assert "Traceback" not in connector.err
    assert "secret" not in connector.err


def test_without_a_token_it_says_where_to_get_one(relay: Relay, tmp_path: Path) -> None:
    connector = Connector(relay, Tunnel("tnl_any", "any", ""), "http://127.0.0.1:1/mcp", folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 2
    assert "arrowslit tunnel create" in connector.err


def test_two_connectors_do_not_share_a_state_folder(scene: Scene, canary: str) -> None:
    second = Program(
        scene.connector.state.parent / "second", scene.connector.words, scene.connector.env
    )  # the same command again, typed in another terminal
    second.spawn()

    assert second.wait() == 1
    assert "another connector runs with the state in" in second.err
    assert scene.connector.running


# ---------------------------------------------------------------- a long life


def test_a_relay_that_is_away_is_waited_for_at_first_and_later_on(tmp_path: Path, canary: str) -> None:
    with Relay(tmp_path) as relay:
        tunnel = relay.tunnel("restless")
        relay.kill()
        connector = Connector(relay, tunnel, canary)
        connector.spawn()
        try:
            assert re.search(
                r"warning  not connected \(relay_unreachable: .*next try in", connector.wait_for("not conn")
            )
            relay.start()
            connector.wait_ready()
            relay.kill()
            assert "warning" in connector.wait_for("the link is gone")
            relay.start()
            relay.wait_connected(tunnel)
        finally:
            connector.kill()

        assert connector.out == "tnl_restless\n"


def test_another_key_with_the_same_token_waits_for_approval(
    relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path
) -> None:
    with Connector(relay, tunnel, canary, folder=tmp_path / "first") as first:
        assert first.stop() == 0
    second = Connector(relay, tunnel, canary, folder=tmp_path / "second")
    second.spawn()
    try:
        refused = second.wait_for("pinned to another connector key")
        assert f"arrowslit tunnel approve {tunnel.name}" in refused
        status = invoke("tunnel", "status", tunnel.name, "--json", **at(relay)).ok().json
        assert status["refused_key"] in refused

        done = invoke("tunnel", "approve", tunnel.name, **at(relay)).ok()
        assert status["refused_key"] in done.out
        second.wait_ready()
    finally:
        second.kill()

    assert second.out == f"{tunnel.id}\n"


def test_a_registration_token_makes_the_tunnel_and_is_not_needed_again(
    relay: Relay, canary: str, tmp_path: Path
) -> None:
    token = invoke("key", "create", "--register", "inv-*", "--json", **at(relay)).ok().json["key"]
    new = Tunnel("tnl_inv_berlin", "inv-berlin", token)
    with Connector(relay, new, canary, folder=tmp_path) as connector:
        assert connector.out == "tnl_inv_berlin\n"
        connector.kill()

    with Connector(relay, new, canary, folder=tmp_path, env={"ARROWSLIT_TUNNEL_TOKEN": ""}) as connector:
        assert connector.out == "tnl_inv_berlin\n"

    key = invoke("key", "list", "--json", **at(relay)).ok().json["data"][0]["id"]
    invoke("key", "revoke", key, **at(relay)).ok()
    with Connector(relay, new, canary, folder=tmp_path) as connector:  # what it was given instead still counts
        assert connector.out == "tnl_inv_berlin\n"


def test_a_registration_token_makes_no_other_tunnels(relay: Relay, canary: str, tmp_path: Path) -> None:
    token = invoke("key", "create", "--register", "inv-*", "--json", **at(relay)).ok().json["key"]
    connector = Connector(relay, Tunnel("tnl_other", "other", token), canary, folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: registration_refused" in connector.err


# ---------------------------------------------------------------- its end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_call_finish(
    number: signal.Signals, relay: Relay, tunnel_and_log: tuple[Connector, Path, dict[str, str]]
) -> None:
    connector, log, variables = tunnel_and_log
    with ThreadPoolExecutor() as threads:
        name = connector.tunnel_id.removeprefix("tnl_")
        asked = threads.submit(relay.run, "call", name, name, "slow", "seconds=1", "--json", env=variables)
        until(lambda: log.exists() and "began" in log.read_text(), "the call runs")
        connector.signal(number)

        assert asked.result().ok().json["outcome"] == "result"
    assert connector.wait() == 0
    assert log.read_text() == "began\nended\n"
    assert "Traceback" not in connector.err


def test_a_second_signal_does_not_wait(relay: Relay, tunnel_and_log: tuple[Connector, Path, dict[str, str]]) -> None:
    connector, log, variables = tunnel_and_log
    with ThreadPoolExecutor() as threads:
        name = connector.tunnel_id.removeprefix("tnl_")
        asked = threads.submit(relay.run, "call", name, name, "slow", "seconds=30", "--json", env=variables)
        until(lambda: log.exists() and "began" in log.read_text(), "the call runs")
        connector.signal(signal.SIGTERM)
        tunnel = Tunnel(connector.tunnel_id, name, "")
        until(lambda: not relay.connected(tunnel), "the relay has heard of it", patience=CALLS_FINISH / 2)
        connector.signal(signal.SIGTERM)

        assert connector.wait() == 0
        done = asked.result()
    assert (done.status, done.json["outcome"]) == (3, "outcome_unknown")
    assert "ended" not in log.read_text()


@pytest.fixture
def tunnel_and_log(
    relay: Relay, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Connector, Path, dict[str, str]]]:
    """A connector of servers.py, the log of that server, and the variables to call it with by the tunnel's name."""
    name = f"ends{abs(hash(request.node.name)) % 10**8}"
    tunnel, log = relay.tunnel(name), tmp_path / "log"
    variables = at(relay, relay.key(relay.agent(name, tunnel, ["slow"]), "acme"))
    options = ["--pass-env", "ODD_LOG"]
    env = {"ODD_LOG": str(log)}
    with Connector(relay, tunnel, f"stdio:{SERVER}", *options, folder=tmp_path, env=env) as connector:
        yield connector, log, variables


def test_a_signal_before_it_is_connected_ends_it_as_well(relay: Relay, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        connector = Connector(
            relay, Tunnel("tnl_any", "any", "token"), "http://127.0.0.1:1/mcp", "--relay", address, folder=tmp_path
        )
        connector.spawn()
        silent.settimeout(20)
        dialled, _ = silent.accept()
        with dialled:
            assert connector.stop() == 0

    assert "Traceback" not in connector.err


# ---------------------------------------------------------------- health


def test_health_is_on_loopback_and_says_what_is_wrong(relay: Relay, tunnel: Tunnel, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with programs.over_http("canary") as url, httpx2.Client(base_url=base, trust_env=False) as http:
        key = relay.key(relay.agent(tunnel.name, tunnel, ["echo"]), "acme")
        with Connector(relay, tunnel, url, "--health", f"127.0.0.1:{port}", folder=tmp_path) as connector:
            assert http.get("/healthz").json()["status"] == "ok"
            ready = http.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["connected"] is True
            assert ready.json()["target"]["ready"] is True
            assert ready.json()["connected_since"].endswith("Z")
            invoke("call", tunnel.name, tunnel.name, "echo", "canary=1", **at(relay, key)).ok()

            metrics = http.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
            lines = metrics.text.splitlines()
            assert "arrowslit_connector_connected 1" in lines
            assert "arrowslit_connector_target_ready 1" in lines
            assert any(line.startswith('arrowslit_connector_calls_total{ending="complete"} ') for line in lines)
            listening = [
                each.laddr[:2]
                for each in psutil.Process(connector.pid).net_connections("inet")
                if each.status == psutil.CONN_LISTEN
            ]
            assert listening == [("127.0.0.1", port)]

            invoke("tunnel", "archive", tunnel.name, **at(relay)).ok()
            connector.wait_for("the link is gone")
            gone = until(lambda: r if (r := http.get("/readyz")).status_code == 503 else None, "not ready any more")
            assert gone.json()["connected"] is False
            assert gone.json()["last_error"]
            assert http.get("/healthz").status_code == 200


def test_health_tells_several_targets_apart(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    file = tmp_path / "connector.toml"
    file.write_text(
        f'name = "{tunnel.name}"\n[[targets]]\nname = "here"\nurl = "{canary}"\nceiling = {{ tools = ["echo"] }}\n'
        '[[targets]]\nname = "gone"\nurl = "http://127.0.0.1:9/mcp"\n'
    )
    health = ("--health", f"127.0.0.1:{port}")
    with (
        Connector(relay, tunnel, "", *health, file=file, folder=tmp_path) as connector,
        httpx2.Client(base_url=base, trust_env=False) as http,
    ):
        ready = http.get("/readyz")
        metrics = http.get("/metrics").text.splitlines()

    assert (ready.status_code, ready.json()["connected"]) == (503, True)
    assert {name: (each["ready"], each["ceiling"]) for name, each in ready.json()["targets"].items()} == {
        "here": (True, "file"),
        "gone": (False, "none"),
    }
    assert 'arrowslit_connector_target_ready{target="here"} 1' in metrics
    assert 'arrowslit_connector_target_ready{target="gone"} 0' in metrics
    assert "target gone: ceiling: none" in connector.log
    assert "target here: ceiling: none" not in connector.log


def test_a_health_port_that_is_taken_ends_it(relay: Relay, tunnel: Tunnel, canary: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        connector = Connector(relay, tunnel, canary, "--health", f"127.0.0.1:{port}", folder=tmp_path)
        connector.spawn()

        assert connector.wait() == 1
    assert "code: listen_failed" in connector.err


def test_the_configuration_keeps_a_token_from_travelling_in_the_open() -> None:
    with pytest.raises(Error, match="insecure_relay"):
        ConnectConfig(
            target="http://127.0.0.1:1/mcp",
            name="any",
            relay=parse_relay("http://relay.example.com"),
            token="t",
            state=Path("unused"),
        ).check()
