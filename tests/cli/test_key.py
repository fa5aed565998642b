from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke
from tests.harness import Relay


def test_a_key_is_shown_once_and_works(scene: Scene) -> None:
    words = ["key", "create", "--agent", "stock", "--tenant", "globex", "--name", "for globex"]

    made = invoke(*words, "--json", **at(scene.relay)).ok().json

    assert (made["agents"], made["tenant"], made["scopes"]) == ([scene.agent], "globex", ["invoke"])
    assert made["key"] not in invoke("key", "list", "--json", **at(scene.relay)).ok().out
    listed = next(line for line in invoke("key", "list", **at(scene.relay)).ok().out.splitlines() if made["id"] in line)
    assert f"…{made['key'][-4:]}" in listed
    assert f"for {scene.agent}, tenant globex" in listed
    assert (
        '"globex"' in invoke("call", "stock", "inventory", "echo", "canary=1", **at(scene.relay, made["key"])).ok().out
    )


def test_a_person_gets_a_line_to_copy(scene: Scene) -> None:
    done = invoke("key", "create", "--agent", "stock", **at(scene.relay)).ok()

    assert re.search(r"^  export ARROWSLIT_API_KEY=asl_sk_\w+$", done.out, re.M)
    assert "without --tenant" in done.err


def test_a_key_expires(scene: Scene) -> None:
    words = ["key", "create", "--agent", "stock", "--tenant", "acme", "--expires", "30d", "--json"]

    made = invoke(*words, **at(scene.relay)).ok().json

    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left < timedelta(days=30, minutes=1)
    listed = invoke("key", "list", **at(scene.relay)).ok().out
    assert made["expires_at"] in listed


def test_a_key_expires_at_a_moment(scene: Scene) -> None:
    words = ["key", "create", "--agent", "stock", "--tenant", "acme", "--json", "--expires"]

    made = invoke(*words, "2099-01-31T12:00:00+01:00", **at(scene.relay)).ok().json

    assert made["expires_at"] == "2099-01-31T11:00:00.000Z"
    for when in ("2099-01-31", "2099-01-31T12:00:00", "tomorrow", "1", "-1h"):
        done = invoke(*words, when, **at(scene.relay))
        assert (done.status, done.json["error"]["code"]) == (2, "usage")


def test_a_backend_mints_keys_for_its_users(scene: Scene) -> None:
    scopes = ["--scope", "mint", "--scope", "invoke", "--scope", "confirm"]
    backend = invoke("key", "create", "--agent", "stock", *scopes, "--json", **at(scene.relay)).ok().json
    words = ["key", "create", "--agent", "stock", "--tenant", "globex", "--json"]

    refused = invoke(*words, **at(scene.relay, backend["key"]))
    made = invoke(*words, "--expires", "1h", **at(scene.relay, backend["key"])).ok().json

    assert refused.json["error"]["code"] == "validation_error"
    assert (made["tenant"], made["scopes"], made["minted_by"]) == ("globex", ["invoke"], backend["id"])
    called = invoke("call", "stock", "inventory", "echo", "canary=1", **at(scene.relay, made["key"])).ok()
    assert '"globex"' in called.out
    listed = invoke("key", "list", **at(scene.relay)).ok().out
    assert f"for {scene.agent}, any tenant, to confirm and invoke and mint" in listed
    assert f"for {scene.agent}, tenant globex, minted by {backend['id']}" in listed

    invoke("key", "revoke", backend["id"], **at(scene.relay)).ok()

    done = invoke("tools", "stock", "inventory", "--json", **at(scene.relay, made["key"]))
    assert (done.status, done.json["error"]["code"]) == (1, "unauthenticated")


def test_an_administrators_key_names_no_agents(relay: Relay) -> None:
    made = invoke("key", "create", "--scope", "admin", "--json", **at(relay)).ok().json

    assert made["scopes"] == ["admin"]
    assert "for an administrator, no tenant" in invoke("key", "list", **at(relay, made["key"])).ok().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--tenant", "acme"],
        ["--register", "inv-*", "--agent", "stock"],
        ["--register", "inv-*", "--tenant", "acme"],
        ["--register", "inv-*", "--scope", "invoke"],
        ["--agent", "stock", "--scope", "root"],
    ],
)
def test_a_key_is_for_agents_or_for_connectors(words: list[str]) -> None:
    done = invoke("key", "create", *words)

    assert done.status == 2
    assert done.out == ""


def test_a_registration_token_is_for_connectors(relay: Relay) -> None:
    made = invoke("key", "create", "--register", "inv-*", "--json", **at(relay)).ok().json
    text = invoke("key", "create", "--register", "edge-*", **at(relay)).ok().out

    assert made["key"].startswith("asl_reg_")
    assert re.search(r"^  export ARROWSLIT_TUNNEL_TOKEN=asl_reg_\w+$", text, re.M)
    assert "for tunnels named inv-*" in invoke("key", "list", **at(relay)).ok().out


def test_a_revoked_key_is_good_for_nothing(scene: Scene) -> None:
    made = invoke("key", "create", "--agent", "stock", "--tenant", "acme", "--json", **at(scene.relay)).ok().json

    invoke("key", "revoke", made["id"], **at(scene.relay)).ok()

    done = invoke("tools", "stock", "inventory", "--json", **at(scene.relay, made["key"]))
    assert (done.status, done.json["error"]["code"]) == (1, "unauthenticated")
    assert made["id"] not in invoke("key", "list", **at(scene.relay)).ok().out
    assert "revoked 20" in invoke("key", "list", "--revoked", **at(scene.relay)).ok().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["create", "--agent", "nobody", "--tenant", "acme"], "agent_not_found"),
        (["create", "--agent", "stock", "--tenant", "no tenant"], "validation_error"),
        (["create", "--register", "*-*"], "validation_error"),
        (["revoke", "key_0"], "key_not_found"),
    ],
)
def test_a_refusal_keeps_its_code(words: list[str], code: str, scene: Scene) -> None:
    done = invoke("key", *words, "--json", **at(scene.relay))

    assert (done.status, done.json["error"]["code"]) == (1, code)


def test_a_key_for_agents_manages_nothing(scene: Scene) -> None:
    done = invoke("key", "list", **at(scene.relay, scene.key))

    assert done.status == 1
    assert "code: forbidden" in done.err
