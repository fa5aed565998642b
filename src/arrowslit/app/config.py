"""Configuration: flags and the environment become values that the rest is built from. Nobody else reads the
environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.edge.oidc.issuer import Issuer
    from arrowslit.policy.egress import Rule
    from arrowslit.sandbox.isolation.isolation import Degradable

DEFAULT_LISTEN = "127.0.0.1:8420"
TUNNEL_DOMAIN = "tunnel.localhost"
OFFICIAL = "https://api.anthropic.com"  # the one server without a key of ours that a sandbox worker may serve
ADDRESS_FILE = "relay.address"  # in a relay's state folder: where it was last reached from its own machine

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_FINGERPRINT = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody beyond this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """A relay as `ARROWSLIT_RELAY` names it: origin, and the SHA-256 of its key (hex), None where none was given."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    fingerprint: str | None = None

    @property
    def origin(self) -> str:
        """`https://host[:port]`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return f"{self.scheme}://{host}" + ("" if usual else f":{self.port}")

    @property
    def websocket(self) -> str:
        """Where connectors dial."""
        return "ws" + self.origin.removeprefix("http") + "/connect"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that plain HTTP crosses no network."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return self.origin + (f"#sha256={self.fingerprint}" if self.fingerprint else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """What `arrowslit serve` was told."""

    listen: Listen
    state: Path
    tls_cert: Path | None = None
    tls_key: Path | None = None
    public_cert: Path | None = None
    proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    tunnel_domain: str = TUNNEL_DOMAIN
    database: str | None = None
    ledger_sync: Literal["soon", "always"] = "soon"
    model: str | None = None
    model_key: str | None = field(default=None, repr=False)
    issuers: tuple[Issuer, ...] = ()

    def check(self) -> None:
        """Raises Error `insecure_listen` for a listener that others could hear or speak to without TLS."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise Error("usage", "--tls-cert and --tls-key belong together")
        if not self.listen.is_loopback and self.tls_cert is None and not self.proxies:
            raise Error(
                "insecure_listen",
                f"refusing to listen on {self.listen} without TLS",
                hint="give --tls-cert and --tls-key, or say with --behind-proxy CIDR where the proxy that ends TLS is",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectConfig:
    """What `arrowslit connect` was told. `token` is None where one was registered earlier or has to be.

    `file` is a connector.toml that says what is offered; `target` and what belongs to it are empty then.
    """

    name: str
    target: str = ""
    file: Path | None = None
    relay: RelayAddress
    token: str | None
    state: Path
    allow: tuple[str, ...] = ()
    ceiling: Path | None = None
    pass_env: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    health: Listen | None = None
    proxy: str | None = None

    def check(self) -> None:
        """Raises Error for what would be unsafe, or cannot work."""
        if self.relay.scheme == "http" and not self.relay.is_loopback:
            raise Error(
                "insecure_relay",
                f"refusing to send a token to {self.relay.origin} without TLS",
                hint="use https:// (the address that `arrowslit tunnel create` prints)",
            )
        if not self.relay.is_loopback and self.relay.fingerprint is None:
            raise Error(
                "insecure_relay",
                "the relay's fingerprint is missing",
                hint="set ARROWSLIT_RELAY to the whole address that `arrowslit tunnel create` prints, with #sha256=…",
            )
        if self.health is not None and not self.health.is_loopback:
            raise Error("insecure_listen", "--health listens on loopback only", hint="use --health 127.0.0.1:9090")
        if self.allow and self.ceiling:
            raise Error("usage", "--allow and --ceiling exclude each other", hint="write the tools into the file")


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationConfig:
    """What stands around the code of a session. `uids` are users that nobody else has, needed by root."""

    kind: Literal["bubblewrap", "none"] = "bubblewrap"
    uids: range | None = None
    allow_degraded: tuple[Degradable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """What `arrowslit sandbox` was told. `idle` is how many seconds it stays with a session that has nothing to do."""

    environment: str
    key: str | None = field(repr=False)
    relay: RelayAddress
    state: Path
    capacity: int
    isolation: IsolationConfig
    rules: tuple[Rule, ...] = ()
    idle: float = 60.0
    health: Listen | None = None
    proxy: str | None = None

    def check(self) -> None:
        """Raises Error for what would be unsafe, or cannot work."""
        if self.key is None:
            raise Error(
                "usage",
                "there is no environment key",
                hint="set ARROWSLIT_ENVIRONMENT_KEY to what `arrowslit environment key ENV` prints",
            )
        if self.relay.scheme == "http" and not self.relay.is_loopback:
            raise Error(
                "insecure_relay",
                f"refusing to send a key to {self.relay.origin} without TLS",
                hint="set ARROWSLIT_RELAY to an https:// address",
            )
        if not self.relay.is_loopback and self.relay.fingerprint is None and self.relay.origin != OFFICIAL:
            raise Error(
                "insecure_relay",
                "the relay's fingerprint is missing",
                hint="set ARROWSLIT_RELAY to the relay's whole address, with #sha256=…, as `connect` takes it",
            )
        if self.health is not None and not self.health.is_loopback:
            raise Error("insecure_listen", "--health listens on loopback only", hint="use --health 127.0.0.1:9090")
        if self.rules and self.isolation.kind == "none":
            raise Error(
                "usage",
                "without isolation no host can be kept from the code: --allow-host would promise what nobody keeps",
                hint="leave --allow-host and --allow-private-host away, or use isolation",
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else, without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_listen(text: str) -> Listen:
    """`HOST:PORT`, `[IPV6]:PORT`. Raises Error `usage`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise Error("usage", f"{text!r} is not HOST:PORT", hint=f"for example {DEFAULT_LISTEN}")
    return Listen(host, int(port))


def parse_domain(text: str) -> str:
    """The domain below which servers have their names, in lower case. Raises Error `usage`."""
    domain = text.lower().removesuffix(".")
    if len(domain) > 189 or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise Error("usage", f"{text!r} is not the name of a domain", hint="for example tunnel.example.com")
    return domain


def parse_uids(text: str) -> range:
    """`FIRST-LAST`, both included and neither root. Raises Error `usage`."""
    first, dash, last = text.partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal() or not 0 < int(first) <= int(last) < 2**32 - 1:
        raise Error("usage", f"{text!r} is not FIRST-LAST", hint="for example --uid-range 2000000000-2000000099")
    return range(int(first), int(last) + 1)


def parse_degraded(texts: Iterable[str]) -> tuple[Degradable, ...]:
    """Names of limits, several in one text with commas between them. Raises Error `usage`."""
    from arrowslit.sandbox.isolation.isolation import DEGRADABLE  # the other commands have no use for it

    named = {name.strip() for text in texts for name in text.split(",")}
    if unknown := sorted(named - set(DEGRADABLE)):
        raise Error("usage", f"{unknown[0]!r} is no limit", hint=f"the limits are {', '.join(DEGRADABLE)}")
    return tuple(name for name in DEGRADABLE if name in named)


def parse_relay(text: str) -> RelayAddress:
    """`https://host[:port][#sha256=HEX]`, plain http for loopback. Raises Error `usage`."""
    bad = Error(
        "usage", f"{text!r} is not the address of a relay", hint="it looks like https://relay.example.com#sha256=…"
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise bad from None
    scheme: Literal["http", "https"]
    if parts.scheme == "https":
        scheme = "https"
    elif parts.scheme == "http":
        scheme = "http"
    else:
        raise bad
    fingerprint = _FINGERPRINT.fullmatch(parts.fragment)
    if not parts.hostname or parts.username or parts.query or parts.path not in ("", "/"):
        raise bad
    if parts.fragment and not fingerprint:
        raise bad
    return RelayAddress(
        scheme, parts.hostname, port or (443 if scheme == "https" else 80), fingerprint[1] if fingerprint else None
    )


def read_issuers(path: Path) -> tuple[Issuer, ...]:
    """The issuers of tokens that are listed in a file of `serve --oidc`. Raises Error `oidc_invalid`."""
    from arrowslit.edge.oidc.issuer import parse  # the other commands have no use for it

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"{path} cannot be read: {error}"
        raise Error("oidc_invalid", why, hint="nothing was started; see docs/security-model.md") from error
    return parse(text)


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A CIDR such as 10.0.0.0/8, or one address. Raises Error `usage`."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Error("usage", f"{text!r} is not a network", hint="for example 10.0.0.0/8") from error


# ---------------------------------------------------------------- the environment


def default_state() -> Path:
    """`/var/lib/arrowslit` for root, `$XDG_STATE_HOME/arrowslit` for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/arrowslit")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "arrowslit"


def relay_address(state: Path) -> RelayAddress:
    """`ARROWSLIT_RELAY`, or the relay of this machine that keeps its state in `state`. Raises Error `usage`."""
    named = os.environ.get("ARROWSLIT_RELAY")
    return parse_relay(named) if named else _local_relay(state)


def _local_relay(state: Path) -> RelayAddress:
    """Where the relay with that state folder listened last; the default place if that is not known."""
    try:
        return parse_relay((state / ADDRESS_FILE).read_text().strip())
    except (OSError, UnicodeDecodeError, Error):
        listen = parse_listen(DEFAULT_LISTEN)
        return RelayAddress("http", listen.host, listen.port)


def tunnel_token() -> str | None:
    """`ARROWSLIT_TUNNEL_TOKEN`, or `CLAUDE_TUNNEL_TOKEN`."""
    return os.environ.get("ARROWSLIT_TUNNEL_TOKEN") or os.environ.get("CLAUDE_TUNNEL_TOKEN") or None


def environment_key() -> str | None:
    """`ARROWSLIT_ENVIRONMENT_KEY`, or `ANTHROPIC_ENVIRONMENT_KEY`."""
    named = os.environ.get("ARROWSLIT_ENVIRONMENT_KEY") or os.environ.get("ANTHROPIC_ENVIRONMENT_KEY") or ""
    return named.strip() or None


def api_key(state: Path, relay: RelayAddress) -> str | None:
    """`ARROWSLIT_API_KEY`, the content of `ARROWSLIT_API_KEY_FILE`, or of the local relay's `admin.key`, which is sent
    to no relay on another machine. Raises Error `usage` or `state_unusable` for a file that cannot be read.
    """
    if key := os.environ.get("ARROWSLIT_API_KEY"):
        return key.strip()
    named = os.environ.get("ARROWSLIT_API_KEY_FILE")
    local = relay.is_loopback or relay.origin == _local_relay(state).origin
    if not named and not local:
        return None
    path = Path(named) if named else state / "admin.key"
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        if named:
            missing = f"ARROWSLIT_API_KEY_FILE names {path}, which is not there"
            raise Error("usage", missing, hint="name the file that holds the key, or unset the variable") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Error("state_unusable", f"the key in {path} cannot be read: {error}") from error


def model_key() -> str | None:
    """The key of the model's server: `ARROWSLIT_MODEL_KEY`, the content of `ARROWSLIT_MODEL_KEY_FILE`, or
    `ANTHROPIC_API_KEY`. Raises Error `usage` for a file that cannot be read.
    """
    if key := os.environ.get("ARROWSLIT_MODEL_KEY"):
        return key.strip()
    if not (named := os.environ.get("ARROWSLIT_MODEL_KEY_FILE")):
        return (os.environ.get("ANTHROPIC_API_KEY") or "").strip() or None
    try:
        return Path(named).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise Error("usage", f"ARROWSLIT_MODEL_KEY_FILE names {named}, which cannot be read: {error}") from error


def forget_key_log() -> None:
    """Take `SSLKEYLOGFILE` out of the environment: Python's ssl would write down there what opens every connection."""
    os.environ.pop("SSLKEYLOGFILE", None)


def environment() -> Mapping[str, str]:
    """All of it, for the target's command to be given a part of."""
    return dict(os.environ)


def proxy_for(relay: RelayAddress) -> str | None:
    """`HTTPS_PROXY` for a relay that is not on loopback and not excepted by `NO_PROXY`; None if there is none.

    Raises Error `usage` for what is no HTTP proxy. It is not repeated, for it may hold a password.
    """
    import urllib.request  # slow to import, and most commands have no use for it

    if relay.scheme != "https" or relay.is_loopback or urllib.request.proxy_bypass(relay.host):
        return None
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    proxy = named if "://" in named else f"http://{named}"  # as others read it too
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Error("usage", "HTTPS_PROXY names no HTTP proxy", hint="it looks like http://user:password@host:port")
    return proxy
