"""The beginning of every conversation with a server: find out its era, and in the legacy era open a session."""

from __future__ import annotations

from arrowslit.agents.servers import speech
from arrowslit.agents.servers.door import Door
from arrowslit.agents.servers.gathering import Gathering
from arrowslit.agents.servers.reading import Result, ServerError, read
from arrowslit.agents.servers.speech import LEGACY, MODERN, Speech
from arrowslit.errors import Error
from arrowslit.outcome import Outcome

PROBE = 10.0  # seconds: a legacy server may never answer a question that it does not know
_EARLIER = ("2024-11-05", "2025-03-26", "2025-06-18", LEGACY)


async def shake_hands(door: Door, *, probe: bool = True) -> Speech:
    """What a server is spoken to in. Without `probe` it is known to be of the legacy era.

    Raises Error if it cannot be reached, or speaks neither era.
    """
    if probe and await _is_modern(door):
        return Speech(MODERN)
    return await _initialize(door)


async def _is_modern(door: Door) -> bool:
    """Ask first what only a modern server knows: it answers, and has no memory of it that anybody would have to end."""
    gathered = Gathering(0)
    try:
        await door.carry(speech.request(Speech(MODERN), 0, "server/discover", {}, deadline=PROBE), gathered)
        said = read(gathered)
    except Error as error:
        if error.row.outcome in (Outcome.TIMEOUT, Outcome.OUTCOME_UNKNOWN):
            return False  # it fell silent, or died of the question: another one may live
        raise
    versions = said.value.get("supportedVersions") if isinstance(said, Result) else None
    return isinstance(versions, list) and MODERN in versions


async def _initialize(door: Door) -> Speech:
    gathered = Gathering(0)
    await door.carry(speech.initialize(0), gathered)
    said = read(gathered)
    if isinstance(said, ServerError):
        raise door.refused("initialize", said)
    version = said.value.get("protocolVersion")
    if version not in _EARLIER:
        raise Error(
            "target_failed",
            f"the server {door.server} speaks no version of MCP that we speak",
            hint=f"it has to know {MODERN}, or one of {', '.join(_EARLIER)}",
        )
    agreed = Speech(version, gathered.session)
    await door.carry(speech.initialized(agreed), Gathering())
    return agreed
