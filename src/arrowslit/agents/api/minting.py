"""PURE: which keys a key with the scope `mint` may make: never one that may do more than itself, and none for long."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arrowslit.errors import Error
from arrowslit.principal import Principal, Scope, Tenant

LONGEST = 24 * 3600.0  # seconds: a minted key is for the people who are at work today


@dataclass(frozen=True, slots=True)
class Order:
    """The API key that somebody wants. `agents` are ids, `expires_at` Unix seconds."""

    scopes: frozenset[Scope]
    agents: frozenset[str]
    tenant: Tenant | None
    expires_at: float | None


def mintable(minter: Principal, order: Order, now: float) -> Order:
    """The order as it may be carried out, with the minter's tenant where it names none.

    Raises Error `forbidden` for what goes beyond the minter's own rights, `agent_not_found` for an agent that is not
    the minter's to invoke, `tenant_required` where nobody named a tenant, `validation_error` for a key without an end
    or with one too far away.
    """
    if wider := sorted(order.scopes - (minter.scopes - {Scope.ADMIN, Scope.MINT})):
        raise Error(
            "forbidden",
            f"a key that mints hands on the scopes that it holds itself, and {wider[0].value} is none of those",
            hint="scopes to hand on are invoke and confirm; a minted key never mints",
        )
    if not order.agents <= minter.agents:
        raise no_such_agent()
    if order.expires_at is None:
        raise Error("validation_error", "a minted key needs an end", hint='send "expires_at", at most 24 hours ahead')
    latest = now + LONGEST if minter.expires_at is None else min(now + LONGEST, minter.expires_at)
    if not now < order.expires_at <= latest:
        raise Error(
            "validation_error",
            "a minted key ends at most 24 hours from now, and not after the key that mints it",
            hint="name an earlier expires_at; mint a new key when this one ends",
        )
    return replace(order, tenant=_tenant(minter, order))


def no_such_agent() -> Error:
    """What is said of an agent that does not exist, and of one that is not the minter's to invoke."""
    return Error("agent_not_found", "there is no such agent", hint="a key that mints names some of its own agents")


def _tenant(minter: Principal, order: Order) -> Tenant:
    if minter.tenant is None:
        if order.tenant is None:
            raise Error("tenant_required", "a minted key is for one tenant", hint='send "tenant": whose data it is for')
        return order.tenant
    if order.tenant not in (None, minter.tenant):
        raise Error("forbidden", "this key mints for its own tenant only", hint="leave tenant out, or name that one")
    return minter.tenant
