from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from arrowslit.agents.models.choose import base_url, choose
from arrowslit.agents.models.model import Model
from arrowslit.clock import SystemClock
from arrowslit.errors import Error


def read_file(path: str) -> bytes:
    """What stands in a file."""
    return Path(path).read_bytes()


def chosen(text: str | None, key: str | None = "sk-1") -> Model | None:
    """The model of that name."""
    return choose(text, key=key, read_file=read_file, log=None, clock=SystemClock())


def facts(text: str) -> Mapping[str, object]:
    """What the model of that name says of itself."""
    model = chosen(text)
    assert model is not None
    return model.facts


def test_nothing_is_no_model() -> None:
    assert chosen(None) is None
    assert chosen("") is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("anthropic", "api.anthropic.com"),
        ("https://llm.example.com/anthropic/", "llm.example.com"),
        ("https://llm.example.com:8443", "llm.example.com:8443"),
        ("http://127.0.0.1:11434", "127.0.0.1:11434"),
        ("http://localhost:8080/v1", "localhost:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_a_server_is_named_by_its_url(text: str, host: str) -> None:
    assert facts(text) == {"provider": "messages_api", "host": host, "scripted": False}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://LLM.example.com/Anthropic/", "https://llm.example.com/Anthropic"),
        ("http://localhost:8080/v1", "http://localhost:8080"),
        ("http://localhost:8080/v1/", "http://localhost:8080"),
        ("https://llm.example.com/v1beta", "https://llm.example.com/v1beta"),
    ],
)
def test_a_url_may_be_written_as_other_clients_want_it(url: str, expected: str) -> None:
    assert base_url(url) == expected


def test_what_is_scripted_says_so(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text('[[{"type": "text", "text": "Hello."}]]')

    for text, provider in (
        ("scripted", "scripted"),
        ("obedient", "obedient"),
        (f"scripted:{file}", "scripted:FILE"),
    ):
        assert facts(text) == {"provider": provider, "host": "scripted", "scripted": True}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("claude", "usage"),
        ("ftp://example.com", "usage"),
        ("https://", "usage"),
        ("https://user:secret@example.com", "usage"),
        ("https://example.com/?key=secret", "usage"),
        ("https://example.com:99999", "usage"),
        ("https://exa mple.com", "usage"),
        ("https://[::1", "usage"),
        ("http://example.com", "insecure_model"),
        ("http://127.1:8080", "insecure_model"),
        ("http://10.0.0.7:8080", "insecure_model"),
        ("http://localhost.example.com", "insecure_model"),
        ("scripted:/no/such/file.json", "usage"),
    ],
)
def test_anything_else_is_refused_with_a_hint(text: str, code: str) -> None:
    with pytest.raises(Error) as refused:
        chosen(text)

    assert refused.value.code == code
    assert refused.value.hint
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", [None, "", "two words", "line\nend", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_before_it_is_sent(key: str | None) -> None:
    with pytest.raises(Error) as refused:
        chosen("anthropic", key)

    assert refused.value.code == "usage"
    assert refused.value.hint


def test_a_scripted_model_loads_no_http_client() -> None:
    program = (
        "import sys, arrowslit.agents.models.choose as c; from arrowslit.clock import SystemClock;"
        "c.choose('scripted', key=None, read_file=open, log=None, clock=SystemClock());"
        "print('httpx2' in sys.modules, 'anthropic' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
