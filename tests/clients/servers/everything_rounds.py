"""Tools of `everything.py` that ask the client in rounds, as the modern era does: asked again, the tool goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from everything_tools import Answer, Context, Offered, Work
from mcp_types import (
    CallToolRequestParams,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    InputResponses,
    ListRootsRequest,
    ListRootsResult,
    SamplingCapability,
    SamplingMessage,
    TextContent,
)

Conclude = Callable[[Mapping[str, InputResponse], str | None], str]


def ask_user(message: str, field: str, kind: str = "string") -> ElicitRequest:
    """A form with one field."""
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def ask_model(prompt: str, max_tokens: int = 100) -> CreateMessageRequest:
    """One question for the client's model."""
    messages = [SamplingMessage(role="user", content=TextContent(text=prompt))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=max_tokens))


def given(response: InputResponse | None) -> str:
    """What the client answered, as text; empty for nothing."""
    match response:
        case ElicitResult(content=content):
            return ", ".join(str(value) for value in (content or {}).values())
        case CreateMessageResult(content=TextContent(text=text)):
            return text
        case ListRootsResult(roots=roots):
            return ", ".join(str(root.uri) for root in roots)
        case _:
            return ""


def still_missing(requests: Mapping[str, InputRequest], responses: InputResponses | None) -> bool:
    """Whether something that was asked has no answer; what nobody asked does not matter."""
    return not requests.keys() <= (responses or {}).keys()


def once(requests: Mapping[str, InputRequest], conclude: Conclude, state: str | None = None) -> Work:
    """A tool that asks all of `requests` in one round, and then concludes from the answers and the state."""

    async def work(_context: Context, params: CallToolRequestParams) -> Answer:
        if still_missing(requests, params.input_responses):
            return InputRequiredResult(input_requests=dict(requests), request_state=state)
        return conclude(params.input_responses or {}, params.request_state)

    return work


def all_given(responses: Mapping[str, InputResponse], _state: str | None) -> str:
    return "; ".join(f"{key}: {given(response)}" for key, response in sorted(responses.items()))


async def three_rounds(_context: Context, params: CallToolRequestParams) -> Answer:
    """Two questions, one after the other; the state says which one was answered."""
    responses = params.input_responses or {}
    match params.request_state:
        case "asked for the name" if "step1" in responses:
            colour = ask_user("Step 2: What is your favorite color?", "color")
            return InputRequiredResult(input_requests={"step2": colour}, request_state=given(responses["step1"]))
        case str(name) if "step2" in responses:
            return f"{name} likes {given(responses['step2'])}"
        case _:
            name_please = ask_user("Step 1: What is your name?", "name")
            return InputRequiredResult(input_requests={"step1": name_please}, request_state="asked for the name")


async def what_the_client_can(context: Context, _params: CallToolRequestParams) -> Answer:
    """Ask only what the client declared that it can answer."""
    can, requests = context.session.check_client_capability, dict[str, InputRequest]()
    if can(ClientCapabilities(sampling=SamplingCapability())):
        requests["model"] = ask_model("What is the capital of France?")
    if can(ClientCapabilities(elicitation=ElicitationCapability())):
        requests["user"] = ask_user("What is your name?", "name")
    return InputRequiredResult(input_requests=requests) if requests else "this client can be asked nothing"


NAME = {"user_name": ask_user("What is your name?", "name")}
CAPITAL: dict[str, InputRequest] = {"capital_question": ask_model("What is the capital of France?")}
ROOTS: dict[str, InputRequest] = {"client_roots": ListRootsRequest()}
CONFIRM = {"confirm": ask_user("Please confirm", "ok", "boolean")}
EVERYTHING = {**NAME, "greeting": ask_model("Generate a greeting", 50), **ROOTS}
CONTEXT = {"user_context": ask_user("What context should the prompt use?", "context")}

ROUNDS: dict[str, Offered] = {
    f"test_input_required_result_{name}": Offered(description, work)
    for name, description, work in (
        ("elicitation", "Asks for a name", once(NAME, lambda said, _: f"Hello, {given(said['user_name'])}!")),
        ("sampling", "Asks the client's model", once(CAPITAL, all_given)),
        ("list_roots", "Asks for the roots", once(ROOTS, all_given)),
        ("request_state", "Keeps a state", once(CONFIRM, lambda _, state: f"state-{state}", "ok")),
        ("multiple_inputs", "Asks three things at once", once(EVERYTHING, all_given, "asked")),
        ("multi_round", "Asks twice", three_rounds),
        ("tampered_state", "Keeps a state that nobody may change", once(CONFIRM, all_given, "sealed")),
        ("capabilities", "Asks what the client can answer", what_the_client_can),
    )
}
