"""Story: one session told in a few lines, without a store: what is sent, what the model and the tools do."""

from __future__ import annotations

from collections.abc import Mapping

from arrowslit.agents.sessions.change import Change, Draft, carry_out, idle
from arrowslit.agents.sessions.inbox import Sender, SentEvent, send
from arrowslit.agents.sessions.state import EMPTY, State
from arrowslit.session import Event

PERSON = Sender(may_confirm=True)
WORKER = Sender(worker=True)


def sent(type: str, id: str = "", **body: object) -> SentEvent:
    return SentEvent(id or f"sent_{type}_{sorted(body.items())}", type, body)


def message(text: str = "hello") -> SentEvent:
    return sent("user.message", content=[{"type": "text", "text": text}])


def bash(id: str, verdict: str = "allow") -> Draft:
    return Draft("agent.tool_use", {"name": "bash", "input": {}, "evaluated_permission": verdict}, id)


def mcp(id: str, verdict: str = "allow") -> Draft:
    body = {"name": "stock", "mcp_server_name": "srv", "input": {}, "evaluated_permission": verdict}
    return Draft("agent.mcp_tool_use", body, id)


def custom(id: str) -> Draft:
    return Draft("agent.custom_tool_use", {"name": "charge", "input": {}}, id)


def answered(id: str, outcome: str = "result", call_id: str = "call_1") -> Draft:
    body = {"mcp_tool_use_id": id, "content": [], "is_error": False, "outcome": outcome, "call_id": call_id}
    return Draft("agent.mcp_tool_result", body)


def said(text: str = "done") -> Draft:
    return Draft("agent.message", {"content": [{"type": "text", "text": text}]})


def model(*, failed: bool = False, output: int = 5) -> Draft:
    usage = {"input_tokens": 7, "output_tokens": output, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 2}
    return Draft("span.model_request_end", {"is_error": failed, "model_usage": usage})


class Story:
    """The session so far. Each step takes a second and answers the types of the events that it added."""

    def __init__(self) -> None:
        self.state: State = EMPTY
        self.events: list[Event] = []
        self.now = 1000.0

    def do(self, *drafts: Draft) -> list[str]:
        """What the relay adds."""
        return self._carry_out(Change(drafts))

    def send(self, *events: SentEvent, by: Sender = PERSON, dispatched: Mapping[str, str] | None = None) -> list[str]:
        """What a client or a worker adds. Raises Error."""
        change = send(self.state, events, by, self.now, dispatched=dispatched)
        return self._carry_out(change) if change else []

    def turn(self, *calls: Draft) -> list[str]:
        """A message comes in, and the model answers with these calls."""
        return self.send(message()) + self.do(*calls, model())

    def end(self) -> list[str]:
        """The model has said all."""
        return self.do(said(), model(), idle("end_turn", self.state.turn))

    @property
    def blocked_by(self) -> object:
        """What the last status event said is to be done."""
        return (self.state.stop_reason or {}).get("event_ids")

    def _carry_out(self, change: Change) -> list[str]:
        self.now += 1
        number = len(self.events)
        ids = iter(f"e{number + each}" for each in range(1, 1000))
        appended = carry_out(self.state, change, self.now, lambda: next(ids))
        done = {*appended.processed}
        self.events = [
            Event(each.seq, each.id, each.type, each.created_at, self.now, each.body) if each.id in done else each
            for each in self.events
        ]
        self.events += appended.events
        self.state = appended.state
        return [event.type for event in appended.events]
