"""What the relay writes into the ledger about a call. No argument, result or secret stands there in clear."""

from __future__ import annotations

from arrowslit.policy.decide import Deny, echo
from arrowslit.policy.limits import Bucket, take
from arrowslit.principal import Grant, Principal
from arrowslit.protocol.mcp import Asked
from arrowslit.record import Fields
from arrowslit.relay.carriage import Conclusion, Ticket

DENIALS_PER_SECOND, DENIALS_AT_ONCE = 10.0, 100.0
MOST_PRINCIPALS = 10_000


def asked(principal: Principal, grant: Grant, asked: Asked, ticket: Ticket, digest: str) -> Fields:
    """A call is about to leave. `body_digest` is keyed, so that it can be matched and not guessed.

    `everything` is there where nobody listed what the agent may use: its server was granted whole.
    """
    return {
        "call": ticket.call_id,
        **_who(principal, grant),
        "method": asked.method,
        "tool": ticket.tool,
        **({"everything": True} if grant.everything else {}),
        "body_bytes": len(ticket.body),
        "body_digest": digest,
    }


def listed(principal: Principal, grant: Grant, ticket: Ticket) -> Fields:
    """The relay asks a server for its tools in a caller's place, before the call `before` may leave."""
    return {"before": ticket.call_id, **_who(principal, grant), "method": "tools/list", "tool": None}


def denied(principal: Principal, grant: Grant, asked: Asked, call_id: str, verdict: Deny, skipped: int) -> Fields:
    """A call was refused; nothing left. `skipped` counts denials of this caller that were too many to record."""
    return {
        "call": call_id,
        **_who(principal, grant),
        "method": None if asked.method is None else echo(asked.method),
        "tool": None if asked.tool is None else echo(asked.tool),
        "code": verdict.code,
        "skipped": skipped,
    }


def outcome(ticket: Ticket, conclusion: Conclusion, seconds: float) -> Fields:
    """How a call ended."""
    reply = conclusion.reply
    return {
        "call": ticket.call_id,
        "outcome": conclusion.outcome.value,
        "code": conclusion.error.code if conclusion.error else None,
        "reason": conclusion.reason or (conclusion.error.message if conclusion.error else None),
        "status": reply.status if reply else None,
        "answer_bytes": reply.size if reply else 0,
        "ms": round(seconds * 1000, 3),
    }


def _who(principal: Principal, grant: Grant) -> dict[str, object]:
    return {
        "principal": principal.id,
        "tenant": principal.tenant,
        "agent": grant.agent_id,
        "agent_version": grant.agent_version,
        "server": grant.server.name,
        "tunnel": grant.server.tunnel_id,
    }


class Denials:
    """Keeps one caller's denials from filling the ledger: a few a second are recorded, the rest counted."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._skipped: dict[str, int] = {}

    def worth_recording(self, principal_id: str, now: float) -> bool:
        """Whether this one is recorded; `now` in monotonic seconds."""
        if len(self._buckets) > MOST_PRINCIPALS:
            self._buckets.clear()
        bucket = self._buckets.get(principal_id) or Bucket(DENIALS_AT_ONCE, DENIALS_PER_SECOND, DENIALS_AT_ONCE, now)
        self._buckets[principal_id], wait = take(bucket, now)
        if wait:
            self._skipped[principal_id] = self._skipped.get(principal_id, 0) + 1
        return not wait

    def skipped(self, principal_id: str) -> int:
        """How many were not recorded since the last time this was asked."""
        return self._skipped.pop(principal_id, 0)
