"""What a connector says of itself on its health port: alive, ready, and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.app.build.connector import Connector


def health(connector: Connector) -> Starlette:
    """`/healthz`: the process lives. `/readyz`: a link is up and the target answers (200, else 503), with the state.
    `/metrics`: the same as numbers, in the text format of Prometheus (0.0.4).
    """

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(_: Request) -> JSONResponse:
        state = _state(connector)
        return JSONResponse(state, 200 if state["ready"] else 503)

    async def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse("".join(_metrics(connector)), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def _state(connector: Connector) -> Mapping[str, object]:
    link, target = connector.dialler.state.report(), connector.target.state()
    return {
        "ready": bool(link["connected"] and target["ready"]),
        **link,
        "calls": dict(connector.server.outcomes),
        "target": target,
        "ceiling": connector.ceiling.source.value,
    }


def _metrics(connector: Connector) -> Iterator[str]:
    state, target = connector.dialler.state, connector.target.state()
    yield from _metric("connected", "gauge", "Links to the relay that are open.", {"": state.connected})
    yield from _metric("reconnects_total", "counter", "Links that were lost.", {"": state.reconnects})
    yield from _metric("target_ready", "gauge", "Whether the target answers.", {"": int(bool(target["ready"]))})
    endings = {f'{{ending="{name}"}}': count for name, count in sorted(connector.server.outcomes.items())}
    yield from _metric("calls_total", "counter", "Exchanges, by how they ended on this side.", endings)


def _metric(name: str, kind: str, help: str, samples: Mapping[str, int]) -> Iterator[str]:
    full = f"arrowslit_connector_{name}"
    yield f"# HELP {full} {help}\n# TYPE {full} {kind}\n"
    for labels, value in samples.items():
        yield f"{full}{labels} {value}\n"
