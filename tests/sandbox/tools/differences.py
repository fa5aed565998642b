"""Where our tools say something else than the SDK's, and why."""

from __future__ import annotations

from dataclasses import dataclass

from tests.sandbox.tools.cases import BYTES, Call, bash, glob, grep, read, write


@dataclass(frozen=True, slots=True)
class Difference:
    """What ours say to the last of `calls`, and `because` of what. `by_chance`: the SDK may say the same, depending on
    its Python, its disk or its luck.
    """

    before: str
    calls: tuple[Call, ...]
    ours: str
    because: str
    by_chance: bool = False


DIFFERENT: dict[str, Difference] = {
    "bash takes a quote that nobody closes": Difference(
        "true",
        (bash("echo 'one", timeout_ms=300),),
        "error: /bin/bash: eval: n: unexpected EOF while looking for matching `''",
        "the SDK's shell waits for the end of the quote until the timeout; ours says what is wrong and lives on",
    ),
    "bash shows what it does": Difference(
        "true",
        (bash("set -x; echo on"),),
        "++ echo on\non",
        "the SDK's mark appears in its own trace and is taken for the end",
    ),
    "bash strips titles and links": Difference(
        "true",
        (bash(r"printf '\033]0;title\007\033]8;;http://x\033\\link\033(B\n'"),),
        "link",
        "the SDK leaves all escape sequences but CSI",
    ),
    "bash keeps the last 100 KiB": Difference(
        "true",
        (bash("head -c 102401 /dev/zero | tr '\\0' x"),),
        "[output truncated]\n" + "x" * 102400,
        "the SDK counts its own mark as well and keeps 48 bytes less",
    ),
    "bash takes half a surrogate pair": Difference(
        "true",
        (bash("echo \ud800"),),
        "error: bash: command is no valid Unicode: it holds half of a surrogate pair",
        "the SDK shows the exception of its encoder",
    ),
    "bash takes a NUL": Difference(
        "true",
        (bash("echo a\0b"),),
        "error: bash: command holds a NUL",
        "the SDK's shell leaves it out and runs the rest",
    ),
    "read replaces another encoding": Difference(
        BYTES,
        (read("latin"),),
        "caf\ufffd\n",
        "the SDK refuses; most such files are old text, and edit refuses them still, so nothing is spoilt",
    ),
    "read looks for a NUL": Difference(
        "true",
        (read("a\0b"),),
        r"error: read: path 'a\x00b': no file can have this name",
        "the SDK shows the exception of its Python, in words that change from version to version",
    ),
    "write makes a folder of a file": Difference(
        "echo x >f",
        (write("f/g", "y"),),
        "error: write: f/g: not a directory",
        "the SDK says `file already exists`, which is not what is wrong",
    ),
    "write takes half a surrogate pair": Difference(
        "echo old >f",
        (write("f", "new \ud800"),),
        "error: write: content is no valid Unicode: it holds half of a surrogate pair",
        "the SDK shows the exception of its encoder",
    ),
    "glob finds all below": Difference(
        "mkdir -p a/b; touch -d @1600000001 a/b/f; touch -d @1600000002 a/b; touch -d @1600000003 a",
        (glob("a/**"),),
        "/workspace/a/b\n/workspace/a/b/f",
        "what the last ** finds depends on the SDK's Python: folders alone until 3.12, then files too; ours: both",
        by_chance=True,
    ),
    "glob takes two asterisks in a name": Difference(
        "touch -d @1600000002 ab; touch -d @1600000001 ac",
        (glob("a**"),),
        "/workspace/ab\n/workspace/ac",
        "the SDK refuses it under Python 3.12 and earlier; ours takes it for one, as its later ones do",
        by_chance=True,
    ),
    "grep sorts": Difference(
        "for f in b a c; do echo x >$f; done; mkdir B; echo x >B/f",
        (grep("x"),),
        "/workspace/a:1:x\n/workspace/b:1:x\n/workspace/c:1:x\n/workspace/B/f:1:x",
        "the SDK lists them as the file system does, which differs from machine to machine",
        by_chance=True,
    ),
    "bash has left by exit": Difference(
        "true",
        (("bash", {"command": "exit 3"}), bash("echo more")),
        "error: bash: bash session terminated; restart required",
        "the SDK says so too, but only once its event loop has noticed that the shell ended; before, an exception",
        by_chance=True,
    ),
    "glob takes a pattern of a dot": Difference(
        "true", (glob("."),), "error: glob: Unacceptable pattern: '.'", "the SDK shows the exception of its Python"
    ),
}
