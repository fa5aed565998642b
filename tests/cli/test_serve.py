from __future__ import annotations

import json
import signal
import socket
import stat
from pathlib import Path

import pytest

from arrowslit.app import config
from tests.cli.certificates import issue
from tests.cli.kit import invoke
from tests.harness import Program, Relay, arrowslit


def test_it_says_where_it_listens_and_where_the_key_is(relay: Relay) -> None:
    said = json.loads(relay.out)

    assert relay.out.count("\n") == 1
    assert said["relay"] == f"{said['listen']}#sha256={said['fingerprint']}"
    key = Path(said["admin_key"])
    assert key == relay.state / "admin.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(relay.state.stat().st_mode) == 0o700
    assert key.read_text().strip() not in relay.out + relay.err


def test_a_person_is_told_the_next_command(tmp_path: Path) -> None:
    state = tmp_path / "state"
    relay = Program(tmp_path, ["serve", "--listen", "127.0.0.1:0", "--state", str(state)], {})
    with relay:
        relay.wait_for_out("tunnel create")

        first, *rest = relay.out.splitlines()
        assert first.startswith("arrowslit ")
        address = next(line.split()[1] for line in rest if line.startswith("  relay "))
        assert address.startswith(first.split()[-1] + "#sha256=")
        assert f"  admin key   {state}/admin.key" in rest
        exports = dict(line.split()[1].split("=", 1) for line in rest if line.startswith("  export "))
        assert arrowslit("tunnel", "create", "first", env=exports).ok().out.startswith("first (tnl_first)")


def test_commands_find_a_relay_that_listens_elsewhere_than_usual(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "default_state", lambda: relay.state)

    assert "ID" in invoke("tunnel", "list").ok().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        relay.signal(number)

        assert relay.wait() == 0
        assert "Traceback" not in relay.log
    assert arrowslit("ledger", "verify", "--state", str(relay.state), "--json").ok().json["ok"] is True


def test_started_again_it_is_the_same_relay(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        tunnel, before, key = relay.tunnel("kept"), relay.said, relay.admin_key
        relay.kill()
        relay.start()

        assert relay.said == before
        assert relay.admin_key == key
        assert relay.run("tunnel", "status", tunnel.name, "--json").ok().json["id"] == tunnel.id


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "relay.example.com:0"])
def test_it_does_not_listen_beyond_loopback_without_tls(listen: str, tmp_path: Path) -> None:
    words = ["serve", "--listen", listen, "--state", str(tmp_path / "relay")]

    done = invoke(*words)

    assert (done.status, done.out) == (1, "")
    assert "code: insecure_listen" in done.err
    assert "--tls-cert" in done.err
    assert "--behind-proxy" in done.err
    assert not (tmp_path / "relay").exists()
    assert invoke(*words, "--json").json["error"]["code"] == "insecure_listen"


def test_a_port_that_is_taken_is_said_as_such(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--state", str(tmp_path / "relay")]
        done = arrowslit(*words)
        as_json = arrowslit(*words, "--json")

    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"arrowslit: cannot listen on 127.0.0.1:{port}: Address already in use\nhint: ")
    assert "code: listen_failed" in done.err
    assert as_json.json["error"]["code"] == "listen_failed"
    assert as_json.err == ""


def test_two_relays_do_not_share_a_state_folder(relay: Relay) -> None:
    done = arrowslit("serve", "--listen", "127.0.0.1:0", "--state", str(relay.state))

    assert (done.status, done.out) == (1, "")
    assert "another relay" in done.err
    assert "--state DIR" in done.err
    assert "code: state_unusable" in done.err
    assert "Traceback" not in done.err


def test_a_state_folder_that_is_a_file_is_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = arrowslit("serve", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "file"))

    assert done.status == 1
    assert "code: state_unusable" in done.err


def test_a_certificate_that_is_of_no_use_stops_it_before_it_listens(tmp_path: Path) -> None:
    good, other = issue(tmp_path / "good", "relay.test"), issue(tmp_path / "other", "relay.test")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for cert, key in [(good.cert, other.key), (empty, good.key)]:
        words = ["serve", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "relay")]
        done = arrowslit(*words, "--tls-cert", str(cert), "--tls-key", str(key))

        assert (done.status, done.out) == (1, ""), (cert, key)
        assert "code: certificate_unusable" in done.err
        assert "Traceback" not in done.err


def test_issuers_that_are_not_said_clearly_stop_it_before_it_listens(tmp_path: Path) -> None:
    file = tmp_path / "issuers.toml"
    words = ["serve", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "relay"), "--oidc", str(file)]
    missing = invoke(*words)
    file.write_text('[[issuer]]\nissuer = "https://login.example.com"\naudience = "a"\nalgorithm = "HS256"\n')
    unclear = invoke(*words, "--json")

    assert (missing.status, missing.out) == (1, "")
    assert "cannot be read" in missing.err
    assert "code: oidc_invalid" in missing.err
    assert unclear.json["error"]["code"] == "oidc_invalid"
    assert "issuer 1: " in unclear.json["error"]["message"]
    assert not (tmp_path / "relay").exists()
