from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx2
import pytest

from tests.cli.certificates import issue
from tests.e2e import plain
from tests.e2e.door import MODERN, Door
from tests.harness import Program, arrowslit


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_without_tls_the_relay_refuses_to_be_heard_by_others(listen: str, tmp_path: Path) -> None:
    done = arrowslit("serve", "--listen", listen, "--state", str(tmp_path / "relay"), "--json")

    assert (done.status, done.json["error"]["code"]) == (1, "insecure_listen")
    assert "--tls-cert" in done.json["error"]["hint"]
    assert not (tmp_path / "relay").exists()


async def test_with_tls_everything_works_for_those_who_trust_the_certificate(tmp_path: Path) -> None:
    certificate = issue(tmp_path / "tls", "127.0.0.1")
    state = tmp_path / "relay"
    words = ["serve", "--listen", "0.0.0.0:0", "--state", str(state), "--json", *certificate.options]
    with Program(tmp_path / "said", words, {}) as relay:
        said = json.loads(relay.wait_for_out("listen"))
        assert said["listen"].startswith("https://0.0.0.0:")
        address = said["relay"].partition("#")[0]
        admin = {"ARROWSLIT_RELAY": said["relay"], "ARROWSLIT_API_KEY_FILE": said["admin_key"], **certificate.trust}
        tunnel = arrowslit("tunnel", "create", "far", "--json", env=admin).ok().json
        arrowslit("agent", "create", "stock", "--tunnel", "far", "--allow", "look", env=admin).ok()
        made = arrowslit("key", "create", "--agent", "stock", "--tenant", "acme", "--json", env=admin).ok().json

        env = {"ARROWSLIT_RELAY": tunnel["relay"], "ARROWSLIT_TUNNEL_TOKEN": tunnel["token"], **certificate.trust}
        target = ["--target", plain.over_stdio(), "--state", str(tmp_path / "connector")]
        with Program(tmp_path / "connector-said", ["connect", "--name", "far", *target], env) as connector:
            connector.wait_for_out("tnl_far")
            trust = ssl.create_default_context(cafile=str(certificate.authority))
            async with httpx2.AsyncClient(verify=trust, trust_env=False) as http:
                client = Door(http, f"{address}/mcp/stock/far", made["key"], MODERN)
                assert (await client.call("look", {"canary": "over TLS"})).content["canary"] == "over TLS"
            status = arrowslit("tunnel", "status", "far", "--json", env=admin).ok().json
            assert [each["certificate_binding"] for each in status["connectors"]] == ["on"]

            plainly = address.replace("https", "http")
            async with httpx2.AsyncClient(trust_env=False) as http:
                with pytest.raises(httpx2.TransportError):
                    await http.get(f"{plainly}/healthz")
