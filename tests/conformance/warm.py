"""Starts Python scripts at once, dozens of times: a process that has imported what is slow forks for each of them.

    python warm.py serve SOCKET MODULE...               import the modules, then fork for whoever connects
    python -I -S warm.py run SOCKET SCRIPT ARGUMENT...  what `python SCRIPT ARGUMENT...` would do, 1 s sooner

`run` is a process like any other: its streams are the script's, its end is the script's end, and its environment and
folder too. Only what was imported came before it. For `run`, the standard library's lightest modules alone.
"""

from __future__ import annotations

import os
import socket
import sys

MOST = 1 << 20  # bytes of the environment and the command line


def run(place: str, words: list[str]) -> int:
    """Let the process at `place` run the script, on this one's streams; returns its exit status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        told = [os.getcwd(), *words, "", *(f"{name}={value}" for name, value in os.environ.items())]  # noqa: PTH109
        socket.send_fds(server, ["\0".join(told).encode()], [0, 1, 2])
        status = server.recv(1)
    return status[0] if status else 1


def serve(place: str, modules: list[str]) -> None:
    """Import, listen, fork; until it is killed."""
    import importlib
    import signal

    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            told, streams, *_ = socket.recv_fds(client, MOST, 3)
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                become(told.decode().split("\0"), streams, client)
            client.close()
            for stream in streams:
                os.close(stream)


def become(told: list[str], streams: list[int], client: socket.socket) -> None:
    """Be the script until it ends, or until whoever asked for it does."""
    import runpy
    import threading

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    folder, end = told[0], told.index("")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(pair.partition("=")[::2] for pair in told[end + 1 :])
    sys.argv = told[1:end]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))  # noqa: PTH120  # as the interpreter does
    threading.Thread(target=lambda: client.recv(1) or os._exit(1), daemon=True).start()
    status = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        client.sendall(bytes([status]))
        os._exit(status)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", place, *modules]:
            serve(place, modules)
        case ["run", place, *words]:
            sys.exit(run(place, words))
