"""Whose session is whose: one that is not the caller's is answered exactly like one that does not exist."""

from __future__ import annotations

from starlette.requests import Request

from arrowslit.agents.api.resource import caller
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import State
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.session import Session
from arrowslit.work import Worker


async def visible(request: Request, log: Log) -> tuple[Session, State]:
    """The session of the path and its state, or Error `session_not_found`."""
    try:
        session, state = await log.read(request.path_params["session_id"])
    except Error as error:
        raise (not_found() if error.code == "session_not_found" else error) from error
    if not may_see(caller(request), session):
        raise not_found()
    return session, state


def may_see(who: Principal | Worker, session: Session) -> bool:
    """A person's key sees the sessions of its tenant with its agents; a worker's those that were or are its work."""
    if isinstance(who, Principal):
        return session.tenant == who.tenant and who.may_invoke(session.agent_id)
    if who.session_id is not None:
        return session.id == who.session_id
    return session.environment_id == who.environment_id and session.had_work


def present(who: Principal | Worker) -> None:
    """Refuse a worker whose item went to another one. Raises Error `forbidden`."""
    if isinstance(who, Worker) and who.late:
        raise Error("forbidden", "this item of work is no longer yours", hint="poll for another one")


def not_found() -> Error:
    """The one answer, which says nothing of what was asked for."""
    return Error("session_not_found", "there is no such session", hint="see the list of sessions")
