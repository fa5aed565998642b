"""What a connector says of itself on its health port: alive, ready, and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.app.build.connector import Connector
from arrowslit.connector.offer import Offer


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
    link, offers = connector.dialler.state.report(), connector.server.offers.all()
    states = [each.target.state() for each in offers]
    return {
        "ready": bool(link["connected"] and all(state["ready"] for state in states)),
        **link,
        "calls": dict(connector.server.outcomes),
        **(_alone(offers[0], states[0]) if offers[0].name is None else {"targets": _named(offers, states)}),
    }


def _alone(offer: Offer, state: Mapping[str, object]) -> Mapping[str, object]:
    return {"target": state, "ceiling": offer.ceiling.source.value}


def _named(offers: Sequence[Offer], states: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    return {
        str(offer.name): {**state, "ceiling": offer.ceiling.source.value}
        for offer, state in zip(offers, states, strict=True)
    }


def _metrics(connector: Connector) -> Iterator[str]:
    state, offers = connector.dialler.state, connector.server.offers.all()
    yield from _metric("connected", "gauge", "Links to the relay that are open.", {"": state.connected})
    yield from _metric("reconnects_total", "counter", "Links that were lost.", {"": state.reconnects})
    ready = {_label(each): int(bool(each.target.state()["ready"])) for each in offers}
    yield from _metric("target_ready", "gauge", "Whether the target answers.", ready)
    endings = {f'{{ending="{name}"}}': count for name, count in sorted(connector.server.outcomes.items())}
    yield from _metric("calls_total", "counter", "Exchanges, by how they ended on this side.", endings)


def _label(offer: Offer) -> str:
    return "" if offer.name is None else f'{{target="{offer.name}"}}'


def _metric(name: str, kind: str, help: str, samples: Mapping[str, int]) -> Iterator[str]:
    full = f"arrowslit_connector_{name}"
    yield f"# HELP {full} {help}\n# TYPE {full} {kind}\n"
    for labels, value in samples.items():
        yield f"{full}{labels} {value}\n"
