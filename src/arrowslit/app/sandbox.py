"""The life of `arrowslit sandbox`: prove the isolation, take work, and leave without losing a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.app.build.sandbox import Sandboxes, open_worker
from arrowslit.app.config import SandboxConfig
from arrowslit.app.serve import serve_health
from arrowslit.app.signals import signals

CALLS_FINISH = 30.0  # seconds that running calls have after SIGTERM; systemd kills after 90


async def work(config: SandboxConfig, started: Callable[[Sandboxes], None]) -> None:
    """Serve an environment until SIGTERM or SIGINT, the second of which does not wait for running calls.

    `started` hears once that the isolation is proved. Raises Error, in groups, for what stands in the way of that, and
    when the queue turns the worker away for good.
    """
    task = asyncio.current_task()
    assert task is not None
    leaving = asyncio.Event()
    ready = False

    def stop() -> None:
        if leaving.is_set() or not ready:
            task.cancel()
        leaving.set()

    with signals(stop):
        try:
            async with open_worker(config) as found:
                ready = True
                started(found)
                await _until(leaving, found, config)
        except asyncio.CancelledError:
            if not leaving.is_set():
                raise
            task.uncancel()


async def _until(leaving: asyncio.Event, found: Sandboxes, config: SandboxConfig) -> None:
    """Serve; and leave in order, whatever ends it."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(found.worker.take())]
            if config.health is not None:
                running.append(tasks.create_task(serve_health(health(found), config.health)))
            await leaving.wait()
            for each in running:
                each.cancel()
        await found.worker.drain(CALLS_FINISH)
    except BaseException:
        await asyncio.shield(found.worker.end())
        raise


# ---------------------------------------------------------------- health


def health(found: Sandboxes) -> Starlette:
    """`/healthz`: the process lives. `/readyz`: the queue answers (200, else 503), with the state. `/metrics`: the
    same as numbers, in the text format of Prometheus (0.0.4).
    """

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(_: Request) -> JSONResponse:
        state = found.worker.state
        said = {"ready": state.connected, **state.report(), "worker": found.id, "sandbox": found.report.record()}
        return JSONResponse(said, 200 if state.connected else 503)

    async def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse("".join(_metrics(found)), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def _metrics(found: Sandboxes) -> Iterator[str]:
    state = found.worker.state
    for name, kind, meaning, value in (
        ("connected", "gauge", "Whether the queue answers.", int(state.connected)),
        ("sessions", "gauge", "Sessions that are served now.", state.serving),
        ("items_total", "counter", "Items that were taken.", state.taken),
        ("sessions_total", "counter", "Sessions that were left.", state.served),
        ("failures_total", "counter", "Questions to the queue that failed.", state.failures),
    ):
        full = f"arrowslit_sandbox_{name}"
        yield f"# HELP {full} {meaning}\n# TYPE {full} {kind}\n{full} {value}\n"
