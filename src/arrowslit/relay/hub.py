"""Hub: which link serves which tunnel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from arrowslit.clock import Clock, rfc3339
from arrowslit.errors import Error
from arrowslit.link.link import Link
from arrowslit.link.pipe import CloseCode
from arrowslit.outcome import Effect
from arrowslit.tunnel import Server

FACTS = ("software", "ceiling")
"""What `status` repeats of a connector's own words; everything else in it is what this relay found."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One server that a connector offers: what its operator declared about tools, and the word for its ceiling."""

    effects: Mapping[str, Effect]
    ceiling: str


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One link that serves a tunnel. `connector` names the connector's state folder and survives its restart,
    `instance` its process. `bound` says whether the TLS certificate was part of the proofs. `targets` are the servers
    that it offers with what was declared about their tools; None is the name of one that has none.
    """

    tunnel_id: str
    link: Link
    connector: str
    instance: str
    fingerprint: str
    since: float
    bound: bool
    targets: Mapping[str | None, Offered]
    facts: Mapping[str, str]

    def effect(self, target: str | None, tool: str) -> Effect:
        """What its operator declared about a tool."""
        return self.targets[self.called(target)].effects.get(tool, Effect.WRITE)

    def offers(self, name: str | None) -> bool:
        """Whether a call of the server `name` may go there; for None, whether there is one that must be meant.

        A connector with a single target that has no name answers for every name.
        """
        return name in self.targets or (len(self.targets) == 1 and (name is None or None in self.targets))

    def called(self, name: str | None) -> str | None:
        """What this connector calls the server `name`, which it `offers`."""
        if name not in self.targets:
            (name,) = self.targets
        return name


class Hub:
    """All links of this relay, by tunnel. Fulfils the port Links."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._served: dict[str, list[Served]] = {}
        self._last_seen: dict[str, float] = {}
        self._reconnects: dict[str, int] = {}
        self._processes: dict[str, set[str]] = {}  # instances of connectors that have served a tunnel

    def add(self, served: Served, *, beside: bool = False) -> None:
        """A link is open. An older one of the same process is superseded, unless it is finishing what it has, which
        with `beside` it does from now on.
        """
        links = self._served.setdefault(served.tunnel_id, [])
        for older in [other for other in links if other.instance == served.instance and not other.link.draining]:
            if beside:
                continue
            links.remove(older)
            older.link.close(CloseCode.SUPERSEDED, "the same connector dialled again")
        if served.tunnel_id in self._last_seen:
            self._reconnects[served.tunnel_id] = self._reconnects.get(served.tunnel_id, 0) + 1
        links.append(served)
        self._processes.setdefault(served.tunnel_id, set()).add(served.instance)

    def remove(self, served: Served) -> None:
        """A link is gone."""
        links = self._served.get(served.tunnel_id, [])
        if served in links:
            links.remove(served)
        self._last_seen[served.tunnel_id] = self._clock.now()

    def pick(
        self,
        tunnel_id: str,
        connector: str | None = None,
        without: Collection[Served] = (),
        target: str | None = None,
        *,
        takes_turn: bool = True,
    ) -> Served:
        """A ready link of the tunnel that offers `target`, in turn; only of `connector` where a session binds the call
        to it.

        What takes no turn goes where the next one that does will go, if nothing happens in between.
        Raises Error `no_connector`: nothing was sent anywhere.
        """
        links = self._served.get(tunnel_id, [])
        for served in links:
            here = served.link.usable and served not in without and connector in (None, served.connector)
            if here and served.offers(target):
                if takes_turn:
                    links.remove(served)  # to the end of the line
                    links.append(served)
                return served
        raise Error(
            "no_connector",
            "no connector serves this tunnel right now" if target is None else _nobody_offers(links, target),
            hint="nothing was sent: it is safe to try again; on the private side, check: arrowslit connect",
            connector_last_seen=self.last_seen(tunnel_id),
        )

    def check(self, server: Server) -> None:
        """See Links."""
        if server.target is not None:
            return
        ready = []
        for served in self._served.get(server.tunnel_id, ()):
            if served.link.usable:
                if served.offers(None):
                    return
                ready.append(served)
        if ready:
            names = sorted({name for served in ready for name in served.targets if name is not None})
            raise Error(
                "server_ambiguous",
                f"the connector of this tunnel offers several servers: {', '.join(names)}",
                hint=f'say which one the agent means: "server": "{names[0]}", or https://{names[0]}.TUNNEL.DOMAIN/mcp',
            )

    def processes(self, tunnel_id: str) -> int:
        """How many processes of connectors have served a tunnel so far: another number means another process."""
        return len(self._processes.get(tunnel_id, ()))

    def links(self, tunnel_id: str) -> Sequence[Served]:
        """The links of a tunnel, the one that is next in turn first."""
        return tuple(self._served.get(tunnel_id, ()))

    def last_seen(self, tunnel_id: str) -> str | None:
        """When a connector of the tunnel was last heard (RFC 3339), None for never in the life of this relay."""
        heard = [
            self._clock.now() - (self._clock.monotonic() - served.link.heard_at)
            for served in self._served.get(tunnel_id, [])
        ]
        last = max(heard, default=self._last_seen.get(tunnel_id))
        return None if last is None else rfc3339(last)

    def cut(self, tunnel_id: str, reason: str) -> None:
        """Close every link of a tunnel: its token is worth nothing any more."""
        for served in self.links(tunnel_id):
            served.link.close(CloseCode.FORBIDDEN, reason)

    def cut_others(self, tunnel_id: str, fingerprint: str) -> None:
        """Close every link whose connector has another key than the one that the tunnel is pinned to now."""
        for served in self.links(tunnel_id):
            if served.fingerprint != fingerprint:
                served.link.close(CloseCode.FORBIDDEN, "another connector key was approved")

    def drain(self) -> None:
        """Tell every connector that this relay is going."""
        for links in self._served.values():
            for served in links:
                served.link.drain()

    def close(self) -> None:
        """Close every link."""
        for links in list(self._served.values()):
            for served in list(links):
                served.link.close(CloseCode.GOING_AWAY, "the relay is stopping")

    @property
    def streams(self) -> int:
        """How many streams are alive, all links together."""
        return sum(served.link.streams for links in self._served.values() for served in links)

    def status(self, tunnel_id: str) -> Mapping[str, object]:
        """What is known of a tunnel's connectors, for `tunnel status`."""
        links = self._served.get(tunnel_id, [])
        return {
            "connected": any(served.link.usable for served in links),
            "last_seen": self.last_seen(tunnel_id),
            "reconnects": self._reconnects.get(tunnel_id, 0),
            "connectors": [
                {
                    "connector": served.connector,
                    "connected_since": rfc3339(served.since),
                    "key_fingerprint": served.fingerprint,
                    "certificate_binding": "on" if served.bound else "off",
                    "round_trip_ms": _ms(served.link.peer.round_trip),
                    "streams": served.link.streams,
                    **{name: served.facts.get(name, "")[:200] for name in FACTS},
                    "targets": [
                        {"name": name, "ceiling": each.ceiling}
                        for name, each in served.targets.items()
                        if name is not None
                    ],
                }
                for served in links
            ],
        }


def _nobody_offers(links: Sequence[Served], target: str) -> str:
    if any(served.link.usable for served in links):
        return f"no connector of this tunnel offers the server {target} right now"
    return "no connector serves this tunnel right now"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
