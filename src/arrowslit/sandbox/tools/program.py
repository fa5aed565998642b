"""Program: modules of ours as one program that a Python inside a sandbox runs, where nothing of ours is installed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

BOOT = """\
import json, sys, types
for name, source in json.loads(sys.stdin.buffer.read(int(sys.argv[1]))).items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
module.serve()
"""


class Program:
    """What to start, and what to write to its input first: `text`. It then calls `serve` of the last module.

    Each module comes after those that it imports. They use the standard library of Python 3.10 and nothing else.
    """

    def __init__(self, *modules: ModuleType) -> None:
        self.text = json.dumps(
            {each.__name__: Path(str(each.__file__)).read_text("utf-8") for each in modules}
        ).encode()
        self.argv = ("python3", "-I", "-S", "-B", "-W", "ignore", "-c", BOOT, str(len(self.text)))
