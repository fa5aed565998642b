"""/v1/calls, ours: what became of one call of a tool, as the ledger knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.resource import INVOKERS, Doorkeeper, Method, principal
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.record import CallRecord, CallRecords


@dataclass(frozen=True, slots=True)
class CallsApi:
    """The handler."""

    records: CallRecords

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of this resource."""
        retrieve = Method(self.retrieve, INVOKERS, answer="Call", errors=("call_not_found",))
        return [keeper.resource("/v1/calls/{call_id}", get=retrieve)]

    async def retrieve(self, request: Request) -> Mapping[str, object]:
        """The call and its outcome. One of another tenant is answered like one that there never was."""
        who = principal(request)
        record = await self.records.call(request.path_params["call_id"], lambda call: _belongs(call, who))
        if record is None:
            raise Error(
                "call_not_found",
                "there is no such call",
                hint="an answer, and the idle event of a session, say the id of each call",
            )
        return _show(record)


def _belongs(record: CallRecord, who: Principal) -> bool:
    """A call belongs to the tenant of the principal that made it, as a session does. Nobody sees those of all tenants
    here: the ledger is on the relay's disk.
    """
    return record.tenant == who.tenant and who.may_invoke(record.agent)


def _show(record: CallRecord) -> Mapping[str, object]:
    return {"type": "call", **asdict(record)}
