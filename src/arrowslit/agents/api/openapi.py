"""The OpenAPI document (3.1) of what is served, made from the routes themselves and the shapes that they declare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.agents.api import answers
from arrowslit.agents.api.pages import PageQuery
from arrowslit.agents.api.resource import EVERYBODY, Doorkeeper, Method, OpenTo, Resource
from arrowslit.agents.api.schema import BuiltinBody, CustomBody, Nothing, ToolsetBody
from arrowslit.credential import CredentialKind
from arrowslit.errors import CODES
from arrowslit.file import UNKNOWN_TYPE

ANYWHERE = (
    "bad_http",
    "header_ambiguous",
    "credential_in_url",
    "validation_error",
    "unauthenticated",
    "forbidden",
    "request_timeout",
    "host_not_allowed",
    "rate_limited",
    "idp_unavailable",
    "header_too_large",
    "internal_error",
)
"""What any request may be answered."""

WITH_BODY = ("parse_error", "unknown_field", "not_supported", "payload_too_large", "media_type_unsupported")
WITH_QUERY = ("unknown_field", "encoding_invalid")

_SCHEMAS = "#/components/schemas/"
_BYTES = {UNKNOWN_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_PARAMETER = re.compile(r"{(\w+)}")
_WHO = {CredentialKind.ENVIRONMENT_KEY: "environment key", CredentialKind.SESSIONS_TOKEN: "sessions token"}


@dataclass(frozen=True, slots=True)
class OpenApi:
    """The handler. `routes` are those that the document tells of."""

    served: Sequence[Route]

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of the document."""
        return [keeper.resource("/v1/openapi.json", get=Method(self.retrieve, EVERYBODY, answer="OpenApiDocument"))]

    async def retrieve(self, _: Request) -> object:
        """The document."""
        return document(self.served)


def document(routes: Sequence[Route]) -> Mapping[str, object]:
    """The document of those methods that declare an answer, or that they stream or hand out bytes.

    Raises AttributeError for an answer that `answers.py` does not have.
    """
    served = list(_served(routes))
    components = _components([method for _, _, method in served])
    paths: dict[str, dict[str, object]] = {}
    for path, name, method in served:
        paths.setdefault(path, {})[name.lower()] = _operation(path, name, method, components)
    for query in {method.query for _, _, method in served if method.query is not None}:
        components.pop(query.__name__, None)  # each parameter stands at its method
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "arrowslit",
            "version": __version__,
            "description": "Agents that use private tools. The official anthropic SDK speaks it; what is ours says so.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _served(routes: Sequence[Route]) -> Iterator[tuple[str, str, Method]]:
    for route in routes:
        assert isinstance(route.app, Resource)
        for name, method in route.app.methods.items():
            if method.answer is not None or method.stream or method.download:
                yield route.path, name, method


def _components(methods: Sequence[Method]) -> dict[str, Any]:
    """Every schema that the methods speak of, by name."""
    shapes: list[type] = [answers.Error, BuiltinBody, CustomBody, ToolsetBody]
    pages = []
    for method in methods:
        shapes += [shape for shape in (method.query, method.body) if shape is not None and shape is not Nothing]
        if method.answer is not None:
            entry = method.answer.removesuffix("Page")
            shapes.append(getattr(answers, entry))
            pages += [entry] if entry != method.answer else []
    unique = list(dict.fromkeys(shapes))
    _, components = msgspec.json.schema_components(unique, schema_hook=_anything, ref_template=_SCHEMAS + "{name}")
    return {**components, **{f"{entry}Page": _page(entry) for entry in pages}}


def _anything(kind: type) -> dict[str, Any]:
    """The schema of `object`: any JSON value."""
    if kind is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def _page(entry: str) -> Mapping[str, object]:
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["data", "next_page"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": _SCHEMAS + entry}},
            "next_page": cursor,
            "prev_page": cursor,
        },
        "additionalProperties": False,
    }


def _operation(path: str, name: str, method: Method, components: Mapping[str, Any]) -> Mapping[str, object]:
    parameters: list[object] = [
        {"name": each, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for each in _PARAMETER.findall(path)
    ]
    if method.query is not None:
        parameters += _query(components[method.query.__name__])
    operation: dict[str, object] = {
        "operationId": "_".join([name.lower(), *re.findall(r"\w+", path)]),
        "summary": (method.handler.__doc__ or "").partition("\n")[0].rstrip("."),
        "x-open-to": _words(method.open_to),
        "parameters": parameters,
        "responses": _responses(method),
    }
    if method.body is not None and method.body is not Nothing:
        operation["requestBody"] = {
            "required": "required" in components[method.body.__name__],
            "content": {"application/json": {"schema": {"$ref": _SCHEMAS + method.body.__name__}}},
        }
    if method.upload:
        about = "the file's bytes, whatever they are; another content-type is kept, and shown as the file's mime_type"
        operation["requestBody"] = {"required": False, "description": about, "content": _BYTES}
    return operation


def _query(shape: Mapping[str, Any]) -> list[object]:
    """The parameters of a query. None of them can be null: one that is not meant is left out."""
    return [
        {"name": name, "in": "query", "required": name in shape["required"], "schema": _without_null(schema)}
        for name, schema in shape["properties"].items()
    ]


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {name: value for name, value in schema.items() if name != "default" or value is not None}
    options = [each for each in kept.pop("anyOf", []) if each != {"type": "null"}]
    if len(options) > 1:
        return {**kept, "anyOf": options}
    return {**kept, **(options[0] if options else {})}


def _responses(method: Method) -> Mapping[str, object]:
    codes = dict.fromkeys([*ANYWHERE, *method.errors])
    if method.body is not None:
        codes |= dict.fromkeys(WITH_BODY)
    if method.query is not None:
        codes |= dict.fromkeys(WITH_QUERY)
        codes |= dict.fromkeys(["cursor_invalid"] if issubclass(method.query, PageQuery) else [])
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].v1, []).append(code)
    return {
        "200": _success(method),
        **{
            str(status): {
                "description": f"{HTTPStatus(status).phrase}: {', '.join(sorted(said))}",
                "content": {"application/json": {"schema": {"$ref": _SCHEMAS + "Error"}}},
            }
            for status, said in sorted(by_status.items())
        },
    }


def _success(method: Method) -> Mapping[str, object]:
    if method.stream:
        return {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    if method.download:
        return {"description": "The bytes", "content": _BYTES}
    schema: dict[str, object] = {"$ref": f"{_SCHEMAS}{method.answer}"}
    if method.answer in answers.NULLABLE:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _words(open_to: OpenTo) -> list[str]:
    return sorted(_WHO[each] if isinstance(each, CredentialKind) else each.value for each in open_to)
