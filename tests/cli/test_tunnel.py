from __future__ import annotations

import re
from pathlib import Path

import pytest

from arrowslit.cli.tunnel import connectors_of
from tests.cli.certificates import issue
from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke
from tests.harness import Relay


def test_a_new_tunnel_comes_with_what_a_connector_needs(relay: Relay) -> None:
    made = invoke("tunnel", "create", "made-here", "--json", **at(relay)).ok().json

    assert made.keys() == {"id", "name", "token", "relay"}
    assert (made["id"], made["name"]) == ("tnl_made_here", "made-here")
    assert made["token"].startswith("asl_tun_")
    assert made["relay"] == str(relay.address)


def test_a_person_gets_lines_to_copy(relay: Relay) -> None:
    done = invoke("tunnel", "create", "to-copy", **at(relay)).ok()

    assert re.search(r"^  export ARROWSLIT_TUNNEL_TOKEN=asl_tun_\w+$", done.out, re.M)
    assert f"\n  export ARROWSLIT_RELAY={relay.address}\n" in done.out
    assert "\n  arrowslit connect --name to-copy --target " in done.out
    assert "on this machine only" in done.err  # the relay was named by a loopback address


@pytest.mark.parametrize("options", [["--key-binding", "none"], ["--tenant-optional"]])
def test_what_weakens_a_tunnel_is_shown(options: list[str], relay: Relay) -> None:
    name = options[0].strip("-") + "-tunnel"
    invoke("tunnel", "create", name, *options, **at(relay)).ok()

    shown = {
        "--key-binding": ("key binding: none", "warning: key binding is off"),
        "--tenant-optional": ("tenant optional", "warning: callers without a tenant are let in"),
    }[options[0]]
    listed = next(line for line in invoke("tunnel", "list", **at(relay)).ok().out.splitlines() if name in line)
    assert shown[0] in listed
    assert shown[1] in invoke("tunnel", "status", name, **at(relay)).ok().out


def test_a_list_shows_more_than_one_page(relay: Relay) -> None:
    names = [f"page-{number}" for number in range(105)]
    with relay.client() as client:
        for name in names:
            client.post("tunnels", body={"name": name})

    found = invoke("tunnel", "list", "--json", **at(relay)).ok().json["data"]

    assert set(names) <= {each["name"] for each in found}
    assert len(found) == len({each["id"] for each in found})


def test_status_shows_certificates_and_that_nobody_enforces_them(relay: Relay, tmp_path: Path) -> None:
    tunnel = relay.tunnel("certified")
    with relay.client() as client:
        pem = issue(tmp_path, "wiki.certified.tunnel.localhost").authority.read_text()
        kept = client.post("tunnels", tunnel.id, "certificates", body={"ca_certificate_pem": pem})

    text = invoke("tunnel", "status", "certified", **at(relay)).ok().out

    assert f"sha256 {kept['fingerprint']}" in text
    assert "not enforced" in text


def test_status_shows_who_serves_a_tunnel(scene: Scene) -> None:
    found = invoke("tunnel", "status", "inventory", "--json", **at(scene.relay)).ok().json
    text = invoke("tunnel", "status", "tnl_inventory", **at(scene.relay)).ok().out

    assert found["connected"] is True
    assert "inventory (tnl_inventory): connected" in text
    assert f"connector key  {found['connector_key']}" in text
    assert found["connector_key"] in scene.connector.log  # connect announced the same
    assert "certificate binding off" in text
    assert "warning: ceiling: none" in text


def test_status_names_every_server_of_a_connector_with_its_ceiling() -> None:
    targets = [{"name": "wiki", "ceiling": "none"}, {"name": "stock", "ceiling": "file"}]
    connector = {
        "connector": "1f2e",
        "connected_since": "2026-11-22T10:00:00Z",
        "key_fingerprint": "ab",
        "certificate_binding": "on",
        "round_trip_ms": 1.5,
        "streams": 0,
        "ceiling": "several",
        "targets": targets,
    }
    lines = list(connectors_of([connector], "internal"))

    assert "    serves wiki, ceiling none" in lines
    assert "    serves stock, ceiling file" in lines
    assert lines[-1] == "warning: ceiling: none. A connector lets through whatever this relay grants of wiki"


def test_a_rotated_token_is_another_and_the_old_one_lives_on_for_its_grace(relay: Relay) -> None:
    first = invoke("tunnel", "create", "rotated", "--json", **at(relay)).ok().json

    second = invoke("tunnel", "rotate", "rotated", "--grace", "10m", "--json", **at(relay)).ok().json

    assert second == {**first, "token": second["token"]}
    assert second["token"] != first["token"]
    assert "the token before this one still works until" in invoke("tunnel", "status", "rotated", **at(relay)).ok().out


def test_a_revoked_token_has_no_grace(relay: Relay) -> None:
    invoke("tunnel", "create", "revoked", **at(relay)).ok()

    invoke("tunnel", "rotate", "revoked", "--revoke", **at(relay)).ok()

    assert "still works" not in invoke("tunnel", "status", "revoked", **at(relay)).ok().out


def test_there_is_nothing_to_approve_where_no_key_was_refused(relay: Relay) -> None:
    invoke("tunnel", "create", "untouched", **at(relay)).ok()

    done = invoke("tunnel", "approve", "untouched", **at(relay))

    assert done.status == 1
    assert done.out == ""


def test_an_archived_tunnel_is_gone_for_good(relay: Relay) -> None:
    invoke("tunnel", "create", "short-lived", **at(relay)).ok()

    assert "is archived" in invoke("tunnel", "archive", "short-lived", **at(relay)).ok().out

    assert "short-lived" not in invoke("tunnel", "list", **at(relay)).ok().out
    assert "archived" in invoke("tunnel", "list", "--archived", **at(relay)).ok().out
    again = invoke("tunnel", "create", "short-lived", "--json", **at(relay))
    assert (again.status, again.json["error"]["code"]) == (1, "name_taken")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["create", "inventory"], "name_taken"),
        (["create", "Not a name"], "validation_error"),
        (["status", "nowhere"], "tunnel_not_found"),
        (["status", "tnl_../../keys"], "bad_http"),
        (["rotate", "nowhere"], "tunnel_not_found"),
        (["archive", "nowhere"], "tunnel_not_found"),
    ],
)
def test_a_refusal_keeps_the_relays_code_and_says_what_to_do(words: list[str], code: str, scene: Scene) -> None:
    done = invoke("tunnel", *words, **at(scene.relay))

    assert (done.status, done.out) == (1, "")
    assert f"code: {code}" in done.err
    assert "hint: " in done.err
    assert invoke("tunnel", *words, "--json", **at(scene.relay)).json["error"]["code"] == code
