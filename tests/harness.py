"""Relay and Connector as processes of their own, as their users start them: to be started, killed, started again.

    with Relay(tmp_path) as relay:
        tunnel = relay.tunnel("inventory")
        relay.agent("stock", tunnel, ["echo"])
        with Connector(relay, tunnel, target=url) as connector:
            relay.run("call", "stock", "inventory", "echo", "canary=1", key=relay.key("stock", "acme"))

Everything waits for what the program itself says, and fails with its log if that does not come.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from arrowslit.app.config import RelayAddress, parse_relay
from arrowslit.client.api import Api
from tests.support.ports import free_port

T = TypeVar("T")

PATIENCE = 60.0  # seconds; a start takes one or two, ten times as long where many share two cores

_STEERS = re.compile(
    r"ARROWSLIT_.*|CLAUDE_TUNNEL_TOKEN|SSL_CERT_(FILE|DIR)|(https?|no|all)_proxy|XDG_.*"
    r"|PYTHONDONTWRITEBYTECODE",  # with it a start compiles every library anew, and takes three times as long
    re.IGNORECASE,
)


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without what would steer the command line, and `more`."""
    return {name: value for name, value in os.environ.items() if not _STEERS.fullmatch(name)} | more


def until(what: Callable[[], T | None], described: str, *, patience: float = PATIENCE) -> T:
    """What `what` returns as soon as that is true. Fails with `described` if it does not become so."""
    end = time.monotonic() + patience
    while True:
        if found := what():
            return found
        assert time.monotonic() < end, f"after {patience} s still not: {described}"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    def ok(self) -> Self:
        """Itself, if the status is 0."""
        assert self.status == 0, f"status {self.status}\n{self.out}\n{self.err}"
        return self


def arrowslit(*words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
    """Run a command to its end."""
    command = [sys.executable, "-m", "arrowslit", *words]
    ended = subprocess.run(
        command,
        env=environment(**(env or {})),
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Done(ended.returncode, ended.stdout, ended.stderr)


class Program:
    """A command in a process of its own. What it printed is in files below `folder`, over all of its lives."""

    def __init__(self, folder: Path, words: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.words = list(words)
        self.env = dict(env)
        self.cwd = cwd
        self.through: Sequence[str] = ()  # a command that becomes this one
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._out_before = self._err_before = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start, and wait until it is ready."""
        self.spawn()
        self.wait_ready()
        return self

    def spawn(self) -> None:
        """Start, and do not wait."""
        assert not self.running
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._out_before, self._err_before = out.tell(), err.tell()
            command = [*self.through, sys.executable, "-m", "arrowslit", *self.words]
            self._process = subprocess.Popen(
                command, env=environment(**self.env), cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def wait_ready(self) -> None:
        """Wait for whatever says that it is ready."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # ------------------------------------------------------------ its end

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the current life."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit status that follows."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self) -> int:
        """The exit status, once it ended by itself."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.words[0]} does not end:\n{self.log}") from None

    # ------------------------------------------------------------ what it says

    @property
    def out(self) -> str:
        """What it printed on stdout in its current life."""
        return self._out.read_bytes()[self._out_before :].decode()

    @property
    def err(self) -> str:
        """What it printed on stderr in its current life."""
        return self._err.read_bytes()[self._err_before :].decode()

    @property
    def log(self) -> str:
        """What it printed on stderr in all of its lives."""
        return self._err.read_text()

    def wait_for(self, text: str, *, patience: float = PATIENCE) -> str:
        """Wait for a line of the current life's stderr that matches the pattern `text`; returns it."""
        return self._wait_for(lambda: self.err, text, patience)

    def wait_for_out(self, text: str, *, patience: float = PATIENCE) -> str:
        """The same for stdout."""
        return self._wait_for(lambda: self.out, text, patience)

    def _wait_for(self, read: Callable[[], str], text: str, patience: float) -> str:
        def found() -> str | None:
            ended = not self.running  # asked first: what it said last is read afterwards
            line = next((each for each in read().splitlines(keepends=True) if re.search(text, each)), None)
            assert line or not ended, f"{self.words[0]} ended before it said {text!r}:\n{self.log}"
            return line if line and line.endswith("\n") else None

        try:
            return until(found, f"{self.words[0]} said {text!r}", patience=patience).rstrip("\n")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log}") from None


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel, and what opens it."""

    id: str
    name: str
    token: str


class Relay(Program):
    """`arrowslit serve` on a free port of loopback, which it keeps over all of its lives.

    State and output are in `folder`. `url` is where it listens, `address` the same with its fingerprint.
    """

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.state = folder / "relay"
        super().__init__(folder, ["serve", "--state", str(self.state), "--json", *options], env or {})
        self._port = free_port()
        self.said: dict[str, Any] = {}

    def spawn(self) -> None:
        """See Program."""
        words = self.words
        self.words = [*words, "--listen", f"127.0.0.1:{self._port}"] if "--listen" not in words else words
        super().spawn()
        self.words = words

    def wait_ready(self) -> None:
        """Returns once it listens."""
        self.said = json.loads(self.wait_for_out("listen"))

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return str(self.said["listen"])

    @property
    def address(self) -> RelayAddress:
        """As ARROWSLIT_RELAY names it, with the fingerprint."""
        return parse_relay(f"{self.url}#sha256={self.said['fingerprint']}")

    @property
    def admin_key(self) -> str:
        """The first administrator's key."""
        return (self.state / "admin.key").read_text().strip()

    def run(self, *words: str, key: str | None = None, env: Mapping[str, str] | None = None) -> Done:
        """Run another command against this relay, with a key of its own or the administrator's."""
        use = {"ARROWSLIT_RELAY": str(self.address), "ARROWSLIT_API_KEY": key or self.admin_key}
        return arrowslit(*words, env={**use, **(env or {})})

    def client(self) -> Api:
        """A client of its API, to be closed by a `with`."""
        return Api(self.url, self.admin_key)

    def tunnel(self, name: str, **more: object) -> Tunnel:
        """Make a tunnel; `more` are fields of the request."""
        with self.client() as client:
            made = client.post("tunnels", body={"name": name, **more})
            return Tunnel(made["id"], name, client.post("tunnels", made["id"], "reveal_token")["tunnel_token"])

    def agent(self, name: str, tunnel: Tunnel, tools: Sequence[str]) -> str:
        """Make an agent that may use these tools of the server behind the tunnel, named like it; returns its id."""
        server = {"type": "tunnel", "tunnel_id": tunnel.id, "tool_allowlist": list(tools)}
        with self.client() as client:
            return str(client.post("agents", body={"name": name, "model": "none", "mcp_servers": [server]})["id"])

    def whole(self, name: str, tunnel: Tunnel) -> str:
        """Make an agent that may use everything of the server behind the tunnel; returns its id."""
        servers = [{"type": "tunnel", "tunnel_id": tunnel.id}]
        tools = [{"type": "mcp_toolset", "mcp_server_name": tunnel.name, "allow_everything": True}]
        body = {"name": name, "model": "none", "mcp_servers": servers, "tools": tools}
        with self.client() as client:
            return str(client.post("agents", body=body)["id"])

    def key(self, agent: str, tenant: str | None) -> str:
        """Make a key for an agent and a tenant; returns its text."""
        body = {"agents": [agent], **({} if tenant is None else {"tenant": tenant})}
        with self.client() as client:
            return str(client.post("keys", body=body)["key"])

    def connected(self, tunnel: Tunnel) -> bool:
        """Whether a connector serves the tunnel now."""
        with self.client() as client:
            return bool(client.get("tunnels", tunnel.id, "status")["connected"])

    def wait_connected(self, tunnel: Tunnel, *, patience: float = PATIENCE) -> None:
        """Wait until one does."""
        until(lambda: self.connected(tunnel), f"{tunnel.name} is connected\n{self.log}", patience=patience)


class Connector(Program):
    """`arrowslit connect` for a tunnel of a relay; `target` as on the command line, or a connector.toml as `file`. Its
    state is in `folder`.

    Without a `folder` it is beside the relay's state, one for each tunnel. `env` adds to its environment and replaces
    what this class sets (ARROWSLIT_RELAY, ARROWSLIT_TUNNEL_TOKEN).
    """

    def __init__(
        self,
        relay: Relay,
        tunnel: Tunnel,
        target: str = "",
        *options: str,
        file: Path | None = None,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        folder = folder or relay.state.parent / f"connector-{tunnel.name}"
        self.state = folder / "state"
        offered = ["--config", str(file)] if file else ["--target", target, "--name", tunnel.name]
        words = ["connect", *offered, "--state", str(self.state), *options]
        use = {"ARROWSLIT_RELAY": str(relay.address), "ARROWSLIT_TUNNEL_TOKEN": tunnel.token}
        super().__init__(folder, words, {**use, **(env or {})}, cwd)

    def wait_ready(self) -> None:
        """Returns once it has printed its tunnel's id: the first link is open."""
        self.wait_for_out("tnl_")

    @property
    def tunnel_id(self) -> str:
        """What it printed."""
        return self.out.strip()
