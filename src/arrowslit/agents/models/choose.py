"""From the value of `--model` to a Model."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from arrowslit.agents.models.model import Model
from arrowslit.agents.models.obedient import ObedientScript
from arrowslit.agents.models.script import read_script
from arrowslit.agents.models.scripted import Log, Scripted
from arrowslit.agents.models.stock import StockScript
from arrowslit.clock import Clock
from arrowslit.errors import Error

ANTHROPIC = "https://api.anthropic.com"
CHOICES = "anthropic, the URL of a server that speaks the Messages API, scripted, scripted:FILE or obedient"


def choose(
    text: str | None, *, key: str | None, read_file: Callable[[str], bytes], log: Log | None, clock: Clock
) -> Model | None:
    """The model that `text` names; None where it names none. `key` is for the server, if there is one.

    `read_file` gets the FILE of `scripted:FILE`, `log` each request to a model that is scripted. Raises Error `usage`,
    `insecure_model` for a key and a conversation that would cross a network in the clear, and `validation_error` for a
    script that is none.
    """
    match text or "":
        case "":
            return None
        case "anthropic" if key is None:
            raise Error(
                "usage", "--model anthropic needs a key", hint="set ANTHROPIC_API_KEY=…, or try --model scripted"
            )
        case "anthropic":
            return _server(ANTHROPIC, key, clock)
        case "scripted":
            return Scripted(StockScript(), log, clock=clock)
        case "obedient":
            return Scripted(ObedientScript(), log, clock=clock)
        case named if named.startswith("scripted:"):
            return Scripted(read_script(_read(named.removeprefix("scripted:"), read_file)), log, clock=clock)
        case url if url.lower().startswith(("http://", "https://")):
            return _server(base_url(url), key, clock)
    raise Error("usage", f"--model {text!r} names no model", hint=f"give {CHOICES}")


def base_url(url: str) -> str:
    """`url` without the `/v1` or slash that it may end with: what `/v1/messages` follows. Raises Error."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", 0
        parts = urlsplit("")
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \\?#@")
    if not plain or not host or port == 0:
        raise Error("usage", "--model has a URL that cannot be used", hint="write it as https://host[:port][/prefix]")
    if parts.scheme == "http" and not _is_loopback(host):
        raise Error(
            "insecure_model",
            f"refusing to send conversations to {host} without TLS",
            hint="give an https:// URL; http:// is for a server on this machine",
        )
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc.lower()}{prefix}"


def _server(url: str, key: str | None, clock: Clock) -> Model:
    from arrowslit.agents.models.messages_api import Auth, MessagesApi  # httpx2 takes a while to import

    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise Error("usage", "the model's key holds characters that no key has", hint="copy it again, without spaces")
    return MessagesApi(url, clock=clock, key=key, auth=Auth.API_KEY if url == ANTHROPIC else Auth.BOTH)


def _read(path: str, read_file: Callable[[str], bytes]) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Error(
            "usage",
            f"cannot read the script {path!r}: {why}",
            hint="give the path of a JSON file: --model scripted:FILE",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
