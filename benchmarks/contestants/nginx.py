"""nginx as a plain reverse proxy: one hop in C, that asks nobody who they are, and needs the server to be reachable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.loads.door import Door
from benchmarks.machine.process import Program, find, free_port


def settings(folder: Path, port: int, upstream: int, *, as_root: bool) -> str:
    """PURE. One worker, since the machine has few cores for everybody; connections are kept, bodies stay in memory."""
    places = "\n".join(
        f"    {what}_temp_path {folder / what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
{"user root;" if as_root else ""}
daemon off;
worker_processes 1;
pid {folder / "nginx.pid"};
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 8m;
{places}
    upstream server {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""


def _missing() -> str | None:
    return None if find("nginx") else "there is no nginx (Debian: nginx-light)"


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    nginx = find("nginx")
    assert nginx is not None
    ground.folder.mkdir(parents=True, exist_ok=True)
    port, path = free_port(), ground.folder / "nginx.conf"
    path.write_text(settings(ground.folder, port, ground.far(ground.upstream), as_root=os.geteuid() == 0))
    command = [nginx, "-p", str(ground.folder), "-c", str(path), "-e", "stderr"]
    with Program(ground.folder, command) as program:
        program.answers_at(port)
        yield Door(port, processes={"nginx": program.pid}, era=ground.era)


NGINX = Contestant("nginx", _missing, _run)
