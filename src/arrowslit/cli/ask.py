"""`arrowslit ask`: one question to an agent, streamed to the terminal."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Command
from arrowslit.client.reach import reach
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.client.api import Api

JSON = dict[str, Any]

_USES = ("agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use")

LONGEST_INPUT = 300  # characters of a tool's input that are shown while it runs; all of it where somebody decides


@click.command(cls=Command)
@click.argument("agent")
@click.argument("question")
@click.option("--session", metavar="ID", help="Go on with this session instead of a new one.")
@click.option("--environment", metavar="ENV", help="Where its code runs; else the agent's default environment.")
@speak.json_option
def ask(agent: str, question: str, session: str | None, environment: str | None, as_json: bool) -> int:
    """Ask an agent, and follow its answer.

    Text appears as it comes, tools as they run. Where a tool wants a confirmation it is asked for on the spot; without
    a terminal to ask at, the answer is no. Ctrl-C interrupts the agent, a second one leaves. QUESTION may be - for
    standard input.

    Exits with 3 if something stayed unconfirmed: a tool call that did not arrive, was not answered in time, or of which
    nobody knows whether it was executed.

    Examples:
      arrowslit ask stock "How many BOLT8 do we have?"
      arrowslit ask stock "And how many of them are in Bremen?" --session sesn_5f0c…
      arrowslit ask stock "How many BOLT8 do we have?" --json | jq .unconfirmed

    Environment:
      ARROWSLIT_API_KEY   whose question it is: a key made with --agent and --tenant (or ARROWSLIT_API_KEY_FILE); with
                          --scope confirm too, if tools want confirmations
      ARROWSLIT_RELAY     the relay; else the one on this machine
    """
    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise Error("usage", "the question is empty")
    with reach().client() as client:
        if session is None:
            session = _new_session(client, agent, environment)
        answer = _Answer(client, session, quiet=as_json)
        answer.ask(text)
    speak.answer(answer.data(), answer.last_words(), as_json=as_json)
    return answer.status


def _new_session(client: Api, agent: str, environment: str | None) -> str:
    body: JSON = {"agent": options.agent(client, agent)}
    if environment is not None:
        body["environment_id"] = options.environment(client, environment)
    return str(client.post("sessions", body=body)["id"])


class _Answer:
    """One turn of a session, shown as it comes unless `quiet`."""

    def __init__(self, client: Api, session: str, *, quiet: bool) -> None:
        self._client, self._session, self._quiet = client, session, quiet
        self._texts: list[str] = []
        self._tools: list[JSON] = []
        self._uses: dict[str, JSON] = {}  # by the ids of their events
        self._settled: set[str] = set()  # of them, those about which everything was said
        self._earlier = False  # the session is still at an earlier question
        self._shown = ""  # the message that is coming in pieces
        self._midline = False
        self._error: JSON | None = None
        self._idle: JSON = {}

    # ------------------------------------------------------------ the turn

    def ask(self, text: str) -> None:
        """Send the question, and follow until the turn is over."""
        sent: JSON = {"type": "user.message", "content": [{"type": "text", "text": text}]}
        path = ("sessions", self._session, "events")
        query = {"event_deltas[]": "agent.message"}
        with self._client.follow(*path, "stream", query=query) as events:
            echo = self._client.post(*path, body={"events": [sent]})["data"][0]
            with _first_interrupt(self._interrupt):
                if echo["processed_at"] is None:
                    self._wait_for_earlier()
                self._follow(events)

    def _interrupt(self) -> None:
        """Ask the agent to stop. What it says then comes on the stream."""
        self._say("(interrupting; Ctrl-C again leaves)")
        with reach().client() as client:  # of its own: the other one is in the middle of reading
            client.post("sessions", self._session, "events", body={"events": [{"type": "user.interrupt"}]})

    def _wait_for_earlier(self) -> None:
        """The question waits for an earlier one, which may be waiting for somebody: nothing may happen of itself."""
        self._earlier = True
        self._say("(the session is still at an earlier question)")
        query: dict[str, str | int] = {"order": "desc", "limit": 1, "types[]": "session.status_idle"}
        if self._client.get("sessions", self._session)["status"] == "idle":
            for event in self._client.get("sessions", self._session, "events", query=query)["data"]:
                if event["stop_reason"]["type"] == "requires_action":
                    self._act(event["stop_reason"]["event_ids"])

    def _follow(self, events: Iterator[JSON]) -> None:
        for event in events:
            if event["type"] in _USES:
                self._uses[event["id"]] = event
            if not self._earlier:
                self._show(event)
            match event["type"]:
                case "session.status_idle" if event["stop_reason"]["type"] == "requires_action":
                    self._act(event["stop_reason"]["event_ids"])
                case "session.status_idle" if self._earlier:
                    self._earlier = False  # what comes now is the turn of all that waited
                case "session.status_idle":
                    self._idle = event
                    return
                case "session.status_terminated" | "session.deleted":
                    raise Error("session_terminated", "the session has ended", hint="ask without --session")
        raise Error("relay_unreachable", "the relay ended the stream before the answer was complete", hint=self._look())

    def _show(self, event: JSON) -> None:
        match event["type"]:
            case "event_delta":
                if self._shown not in ("", event["event_id"]):
                    self._say("(that answer was cut off; here it comes again)")
                self._shown = event["event_id"]
                self._write(event["delta"]["content"]["text"])
            case "agent.message":
                text = "".join(block["text"] for block in event["content"] if block["type"] == "text")
                self._texts.append(text)
                if event["id"] != self._shown:
                    self._end_line()
                    self._write(text)
                self._end_line()
                self._shown = ""
            case kind if kind in _USES:
                self._tools.append({"id": event["id"], "name": event["name"], "server": event.get("mcp_server_name")})
                self._say(f"-> {_use(event, LONGEST_INPUT)}")
            case "agent.mcp_tool_result" if event.get("outcome", "result") != "result":
                self._say(f"   {event['outcome']} ({event.get('call_id')})")
            case "session.error":
                self._error = event["error"]
                self._say(f"error: {event['error']['message']}")
                if hint := event["error"].get("hint"):
                    self._say(f"hint: {hint}")

    def _act(self, waiting: list[str]) -> None:
        """Do what can be done here about calls that wait, and say whom the others wait for."""
        for event_id in [each for each in waiting if each not in self._settled]:
            use = self._used(event_id)
            self._settled.add(event_id)
            if use["type"] == "agent.custom_tool_use":
                said = [{"type": "text", "text": "There is no application here that could run this tool."}]
                self._send(
                    {
                        "type": "user.custom_tool_result",
                        "custom_tool_use_id": event_id,
                        "is_error": True,
                        "content": said,
                    }
                )
            elif use.get("evaluated_permission") == "ask" and self._asked(use):
                self._send({"type": "user.tool_confirmation", "tool_use_id": event_id, "result": "allow"})
            elif use.get("evaluated_permission") == "ask":
                why = "the person who asked did not allow it"
                self._send(
                    {"type": "user.tool_confirmation", "tool_use_id": event_id, "result": "deny", "deny_message": why}
                )
            else:
                self._say(f"   waits for a sandbox worker: {use['name']}")

    def _used(self, event_id: str) -> JSON:
        """The use with that id; of an earlier turn's the stream does not tell."""
        if event_id not in self._uses:
            listed = self._client.every("sessions", self._session, "events")
            self._uses |= {each["id"]: each for each in listed if each["type"] in _USES}
        return self._uses[event_id]

    def _send(self, event: JSON) -> None:
        self._client.post("sessions", self._session, "events", body={"events": [event]})

    def _asked(self, use: JSON) -> bool:
        if self._quiet or not sys.stdin.isatty():
            self._say(f"denied, for there is nobody to ask: {_use(use, None)}")
            return False
        self._end_line()
        return click.confirm(f"allow {_use(use, None)}?", default=False, err=True)

    # ------------------------------------------------------------ what is said

    def _write(self, text: str) -> None:
        if not self._quiet:
            click.echo(speak.plain(text, keep="\n\t"), nl=False)
            self._midline = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._midline:
            click.echo()
        self._midline = False

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._end_line()
            click.echo(speak.plain(text), err=True)

    def _look(self) -> str:
        return f"what became of it: arrowslit ask AGENT 'What did you find?' --session {self._session}"

    # ------------------------------------------------------------ how it ended

    @property
    def status(self) -> int:
        """0, 1 if the agent could not answer, 3 if something stayed unconfirmed."""
        if self._idle.get("unconfirmed"):
            return 3
        return 0 if self._idle.get("stop_reason", {}).get("type") == "end_turn" else 1

    def data(self) -> JSON:
        """The turn for a program."""
        return {
            "session": self._session,
            "answer": self._texts[-1] if self._texts else "",
            "messages": self._texts,
            "stop_reason": self._idle.get("stop_reason"),
            "unconfirmed": self._idle.get("unconfirmed", []),
            "tools": self._tools,
            "error": self._error,
        }

    def last_words(self) -> Iterator[str]:
        """What a person should know beside the answer goes to stderr."""
        for each in self._idle.get("unconfirmed", ()):
            where = each["server"] or "the sandbox"
            what = f"{each['tool']} on {where}" if each.get("tool") else f"the tools of {where}"
            call = f", {each['call_id']}" if each.get("call_id") else ""
            speak.note(f"not confirmed: {speak.plain(what)}: {each['outcome']}{speak.plain(call)}")
        if not self._quiet:
            speak.note(f"to go on: arrowslit ask AGENT QUESTION --session {self._session}")
        return iter(())


@contextmanager
def _first_interrupt(what: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C does `what` beside the main thread, which reads on; a second one is a KeyboardInterrupt."""

    def heard(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=what, daemon=True).start()

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _use(event: JSON, longest: int | None) -> str:
    """`server.tool {"sku": "BOLT8"}`; the whole input where somebody decides about it."""
    server = event.get("mcp_server_name")
    said = json.dumps(event["input"], ensure_ascii=True)
    if longest is not None and len(said) > longest:
        said = f"{said[:longest]}…"
    return speak.plain(f"{server}.{event['name']} {said}" if server else f"{event['name']} {said}")
