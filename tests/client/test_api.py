from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from arrowslit.client.api import Api
from arrowslit.errors import Error

asked: list[tuple[str, str, str | None]] = []
answers: list[tuple[int, object]] = []


class Canned(BaseHTTPRequestHandler):
    """Answers with what `answers` holds, one after the other."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked.append((self.command, self.path, self.headers["authorization"]))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, said = answers.pop(0)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815  # as the library names them

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[Api]:
    asked.clear()
    answers.clear()
    with HTTPServer(("127.0.0.1", 0), Canned) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        with Api(f"http://127.0.0.1:{server.server_port}", "a-key") as client:
            yield client
        server.shutdown()


def refusal(details: object, message: str = "no") -> object:
    return {"type": "error", "error": {"type": "x", "message": message, "details": details}}


def test_a_path_is_given_in_parts_and_none_of_them_leaves_its_place(client: Api) -> None:
    answers.extend([(200, {}), (200, {}), (200, {})])

    client.get("tunnels", "tnl_a", "status")
    client.post("agents", "a/../b?c#d", body={"x": 1})
    client.delete("keys", "key_1")

    assert asked == [
        ("GET", "/v1/tunnels/tnl_a/status", "Bearer a-key"),
        ("POST", "/v1/agents/a%2F..%2Fb%3Fc%23d", "Bearer a-key"),
        ("DELETE", "/v1/keys/key_1", "Bearer a-key"),
    ]


def test_the_environment_sends_it_nowhere_else(client: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    answers.append((200, {}))

    with Api(client.origin, "a-key") as another:
        assert another.get("tunnels") == {}


def test_a_list_is_read_to_its_end(client: Api) -> None:
    pages = [{"data": [{"id": 1}, {"id": 2}], "next_page": "p/2"}, {"data": [{"id": 3}], "next_page": None}]
    answers.extend((200, page) for page in pages)

    assert [each["id"] for each in client.every("keys", query={"include_revoked": "true"})] == [1, 2, 3]
    assert asked[1][1] == "/v1/keys?limit=100&include_revoked=true&page=p%2F2"


def test_a_refusal_is_the_relays_own_error(client: Api) -> None:
    details = {"error_code": "no_connector", "hint": "wait", "outcome": "not_delivered", "retry_after": 3, "code": "x"}
    answers.append((503, refusal(details, "nobody is there")))

    with pytest.raises(Error) as refused:
        client.get("tunnels")

    error = refused.value
    assert (error.code, error.message, error.hint) == ("no_connector", "nobody is there", "wait")
    assert error.details["retry_after"] == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (502, b"<html>Bad Gateway</html>"),
        (200, b"<html>Welcome to nginx</html>"),
        (200, []),
        (404, {"error": "not found"}),
        (400, refusal({"error_code": "a_code_of_the_future", "hint": None})),
        (400, refusal(None)),
        (302, b""),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_relays(status: int, said: object, client: Api) -> None:
    answers.append((status, said))

    with pytest.raises(Error) as refused:
        client.get("tunnels")

    assert refused.value.code == "relay_unreachable"
    assert refused.value.hint
