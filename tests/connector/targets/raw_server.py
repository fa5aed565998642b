"""A stdio server written by hand, for the oddities that no SDK offers. Only the standard library: it starts in 20 ms.

Arguments: `dual` or `legacy`, then what it does besides: `log=FILE` (every line it reads), `stubborn` (it ignores the
end of its input and SIGTERM), `silent` (no answer to the probe), `touchy` (the probe kills it), `crash` (it does not
start), `mirrors` (it lists tools, on two pages, of which `echo` wants its `region` and `of.n` repeated in headers). It
refuses `initialize` once there is a file `refuse` beside the log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODERN = "io.modelcontextprotocol/protocolVersion"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
FLAGS = sys.argv[1:]
INNER = {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "Of-N"}}}
REGION = {"type": "string", "x-mcp-header": "Region"}
MIRRORED = {"name": "echo", "inputSchema": {"type": "object", "properties": {"region": REGION, "of": INNER}}}
LOG = next((Path(flag[4:]) for flag in FLAGS if flag.startswith("log=")), None)


def say(*messages: dict[str, Any]) -> None:
    """All in one piece, so that they arrive together."""
    sys.stdout.write("".join(json.dumps({"jsonrpc": "2.0"} | message) + "\n" for message in messages))
    sys.stdout.flush()


def result(ident: object, content: dict[str, Any]) -> None:
    say({"id": ident, "result": content})


def error(ident: object, code: int, text: str = "no", data: object = None) -> None:
    say({"id": ident, "error": {"code": code, "message": text, "data": data}})


class Server:
    """Its tools are its methods whose names begin with `tool_`."""

    def __init__(self) -> None:
        self.era: str | None = None
        self.held: list[tuple[object, dict[str, Any]]] = []
        self.listening: list[object] = []
        self.asked: dict[object, object] = {}
        self.handshakes = 0

    def hear(self, line: bytes) -> None:
        if LOG is not None:
            with LOG.open("ab") as log:
                log.write(line)
        message = json.loads(line)
        method, ident, params = message.get("method"), message.get("id"), message.get("params") or {}
        if method is None:
            if ident in self.asked:
                result(self.asked.pop(ident), {"heard": message.get("result", message.get("error"))})
        elif ident is not None and self.may(ident, method, params):
            self.answer(ident, method, params)

    def may(self, ident: object, method: str, params: dict[str, Any]) -> bool:
        modern = MODERN in params.get("_meta", {}) and method != "initialize"
        if FLAGS[0] == "legacy":
            return True
        if self.era is None:
            self.era = "modern" if modern else "legacy"
        if modern and self.era == "legacy":
            error(ident, -32600, "this connection serves the handshake protocol era")
        elif method == "initialize" and self.era == "modern":
            error(ident, -32022, "Unsupported protocol version", {"supported": ["2026-07-28"]})
        else:
            return True
        return False

    def answer(self, ident: object, method: str, params: dict[str, Any]) -> None:
        if method == "server/discover" and FLAGS[0] == "dual":
            result(ident, {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"})
        elif method == "server/discover" and "touchy" in FLAGS:
            sys.exit(1)
        elif method == "server/discover" and "silent" in FLAGS:
            pass
        elif method == "tools/list" and "mirrors" in FLAGS:
            last = params.get("cursor") == "2"
            result(ident, {"tools": [MIRRORED]} if last else {"tools": [{"name": "pid"}], "nextCursor": "2"})
        elif method == "initialize":
            self.initialize(ident, params)
        elif method == "subscriptions/listen":
            self.listening.append(ident)
            meta = {"_meta": {SUBSCRIPTION: ident}}
            say({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}} | meta})
        elif method == "tools/call" and hasattr(self, "tool_" + params["name"]):
            getattr(self, "tool_" + params["name"])(ident, params.get("arguments", {}), params.get("_meta", {}))
        else:
            error(ident, -32601, "Method not found")

    def initialize(self, ident: object, params: dict[str, Any]) -> None:
        self.handshakes += 1
        if LOG is not None and LOG.with_name("refuse").exists():
            error(ident, -32602, "not any more")
        else:
            result(
                ident, {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": {"name": "raw"}}
            )

    def tool_echo(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        result(ident, {"arguments": arguments, "meta": meta, "id": ident})

    def tool_pid(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        result(ident, {"pid": os.getpid(), "handshakes": self.handshakes})

    def tool_env(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        result(ident, {"env": dict(os.environ), "cwd": str(Path.cwd()), "group": os.getpgid(0), "pid": os.getpid()})

    def tool_error(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        error(ident, arguments["code"])

    def tool_hold(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """Answer so many calls together, in reverse order, once they are all there."""
        self.held.append((ident, arguments))
        if len(self.held) >= arguments["of"]:
            for held, its in reversed(self.held):
                result(held, {"canary": its["canary"]})
            self.held.clear()

    def tool_die(self, _ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        sys.stderr.write(arguments.get("words", ""))
        sys.stderr.flush()
        os._exit(arguments.get("status", 7))

    def tool_last(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """Answer, and die."""
        result(ident, {"last": True})
        os._exit(0)

    def tool_twice(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        result(ident, {"first": arguments["canary"]})
        result(ident, {"second": arguments["canary"]})

    def tool_misaddressed(self, ident: Any, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """Answer everybody but the one who asked, and then that one."""
        for wrong in (str(ident), ident + 0.5, ident + 1000, -ident, None, [ident], {"id": ident}, True):
            say({"id": wrong, "result": {"of": "nobody"}})
        result(ident, {"right": True})

    def tool_half(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """An answer without its line end, whole or not, and then the end."""
        line = json.dumps({"jsonrpc": "2.0", "id": ident, "result": {"whole": True}})
        sys.stdout.write(line[: arguments.get("cut")])
        sys.stdout.flush()
        os._exit(0)

    def tool_shout(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        for _ in range(64):
            sys.stderr.write("x" * 65536 + "\n")
        result(ident, {"shouted": True})

    def tool_noise(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        print("starting up ...")
        print('{"level": "info"}\n\n[1, 2]\n{"id": 1.5, "result": {}}', flush=True)
        sys.stdout.buffer.write(b"\xff\xfe\n")
        result(ident, {"quiet": False})

    def tool_print(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        r"""Print a line in which TOKEN and LISTENER stand for what they mean; `\xff` stays the byte that it is not."""
        line = arguments["line"].replace("TOKEN", str(meta.get("progressToken")))
        line = line.replace("LISTENER", str(self.listening[0] if self.listening else 0))
        sys.stdout.buffer.write(line.encode("latin-1") + b"\n")
        result(ident, {})

    def tool_progress(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        for step in range(arguments["steps"]):
            say(
                {
                    "method": "notifications/progress",
                    "params": {"progressToken": meta["progressToken"], "progress": step},
                }
            )
        if not arguments.get("hang"):
            result(ident, {"token": meta["progressToken"]})

    def tool_begin(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        """As `hold`, and report progress at once."""
        about = {"progressToken": meta["progressToken"], "progress": 1}
        say({"method": "notifications/progress", "params": about})
        self.tool_hold(ident, arguments, meta)

    def tool_tell(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        say({"method": arguments["method"], "params": arguments.get("params", {})})
        result(ident, {"told": True})

    def tool_ask(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """Ask the client something; the answer to this call is what it said. `first`: this call is answered before."""
        self.asked[f"ask-{ident}"] = ident
        question = {"id": f"ask-{ident}", "method": "sampling/createMessage", "params": {"of": arguments.get("of")}}
        say(*([{"id": ident, "result": {"asked": True}}] if arguments.get("first") else []), question)

    def tool_publish(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        for listener in self.listening:
            meta = {"_meta": {SUBSCRIPTION: listener}}
            say({"method": "notifications/tools/list_changed", "params": {"text": arguments["text"]} | meta})
            if arguments.get("end"):
                result(listener, {"resultType": "complete"} | meta)
        result(ident, {"listeners": len(self.listening)})

    def tool_unsubscribe(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        for listener in self.listening:
            say({"method": "notifications/cancelled", "params": {"requestId": listener}})
        result(ident, {})

    def tool_big(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        result(ident, {"text": "x" * arguments["size"]})

    def tool_flood(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        text = "x" * 1_000_000
        for step in range(arguments["megabytes"]):
            about = {"progressToken": meta["progressToken"], "progress": step, "message": text}
            say({"method": "notifications/progress", "params": about})
        result(ident, {})

    def tool_fork(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """A grandchild that ignores what a polite program would not, and holds our streams open."""
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        result(ident, {"pid": subprocess.Popen([sys.executable, "-S", "-c", script]).pid})

    def tool_close_output(self, _ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        os.close(1)

    def tool_close_input(self, ident: object, _arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        os.close(0)
        result(ident, {"pid": os.getpid()})
        time.sleep(60)

    def tool_sleep(self, ident: object, arguments: dict[str, Any], _meta: dict[str, Any]) -> None:
        """Read nothing for a while."""
        time.sleep(arguments["seconds"])
        result(ident, {"slept": True})

    def tool_never(self, ident: object, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        """No answer."""


def main() -> None:
    if "crash" in FLAGS:
        sys.exit("KeyError: 'INTERNAL_DB_DSN'")
    if "stubborn" in FLAGS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = Server()
    for line in sys.stdin.buffer:
        server.hear(line)
    while "stubborn" in FLAGS:
        time.sleep(1)


if __name__ == "__main__":
    main()
