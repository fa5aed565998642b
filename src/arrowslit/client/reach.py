"""Reach: which relay a command speaks to, and with which key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arrowslit.app import config
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.client.api import Api


@dataclass(frozen=True, slots=True)
class Reach:
    """A relay, and what it takes to speak to it."""

    relay: config.RelayAddress
    key: str
    proxy: str | None

    def client(self) -> Api:
        """A client of its API, to be closed by a `with`."""
        from arrowslit.client.api import Api  # an HTTP client is slow to import

        return Api(self.relay.origin, self.key, proxy=self.proxy)


def reach() -> Reach:
    """What the environment names, else the relay of this machine and its administrator's key.

    Raises Error `usage`, `insecure_relay`, `relay_unreachable`, `unauthenticated` or `state_unusable`.
    """
    state = config.default_state()
    relay = config.relay_address(state)
    if relay.scheme == "http" and not relay.is_loopback:
        raise Error(
            "insecure_relay",
            f"refusing to send a key to {relay.origin} without TLS",
            hint="set ARROWSLIT_RELAY to an https:// address",
        )
    key = config.api_key(state, relay)
    if key is None and relay.is_loopback:
        raise Error(
            "relay_unreachable",
            f"no relay has kept its state in {state} so far, and no key is set",
            hint="start one with: arrowslit serve; or set ARROWSLIT_RELAY and ARROWSLIT_API_KEY",
        )
    if key is None:
        raise Error(
            "unauthenticated",
            f"there is no key for {relay.origin}",
            hint="set ARROWSLIT_API_KEY, or ARROWSLIT_API_KEY_FILE to the file that holds it",
        )
    return Reach(relay, key, config.proxy_for(relay))
