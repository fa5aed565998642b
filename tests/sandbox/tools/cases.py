"""Case: a line of bash that prepares a folder, and calls of tools; and those in which ours say what the SDK's say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """`calls` after `before`. `unordered`: lines may come in any order."""

    before: str
    calls: tuple[Call, ...]
    unordered: bool = False


def bash(command: str, **more: Any) -> Call:
    return ("bash", {"command": command, **more})


def read(path: str, *view_range: int) -> Call:
    return ("read", {"file_path": path, **({"view_range": list(view_range)} if view_range else {})})


def write(path: str, content: str) -> Call:
    return ("write", {"file_path": path, "content": content})


def edit(path: str, old: str, new: str, **more: Any) -> Call:
    return ("edit", {"file_path": path, "old_string": old, "new_string": new, **more})


def glob(pattern: str, *path: str) -> Call:
    return ("glob", {"pattern": pattern, **({"path": path[0]} if path else {})})


def grep(pattern: str, *path: str) -> Call:
    return ("grep", {"pattern": pattern, **({"path": path[0]} if path else {})})


def same(*calls: Call, before: str = "true", unordered: bool = False) -> Case:
    return Case(before, calls, unordered)


TREE = """
mkdir -p a/b .git node_modules .hidden
for f in one.py a/two.py a/b/three.py .hidden/four.py .git/five.py node_modules/six.py; do echo "say $f" >$f; done
n=1; for f in six.py five.py four.py three.py two.py one.py; do
touch -d "@$((1700000000 + n++))" $(find . -name $f); done
ln -s a link; ln -s / out; ln -s nowhere dangling; ln -s a/b/three.py file-link
touch -d @1600000000 a a/b .hidden; touch -h -d @1600000000 link out dangling file-link"""

LINKS = """
mkdir d; echo in >d/f; ln -s d/f to-file; ln -s d to-folder; ln -s /etc/passwd out; ln -s / root; ln -s nowhere dangling
ln -s /nowhere/else dangling-out; ln -s loop loop; ln -s ../../../../etc up; ln -s "$PWD/d/f" absolute; mkfifo fifo"""

BYTES = r"""printf 'caf\xe9\n' >latin; printf '\xff\x00\x01' >binary; printf 'a\0b' >nul"""

SAME: dict[str, Case] = {
    # bash
    "bash says what is printed": same(bash("echo one; echo two >&2; echo three")),
    "bash says nothing": same(bash("true"), bash("false"), bash("printf '\\n\\n'")),
    "bash keeps its folder and variables": same(
        bash("mkdir d; cd d; x=5; export y=6; f() { echo f; }"), bash("basename $PWD; echo $x; sh -c 'echo $y'; f")
    ),
    "bash has an empty input": same(bash("cat; read x || echo none")),
    "bash fails with what was printed": same(bash("echo why; exit_status() { return 7; }; exit_status")),
    "bash does not know a command": same(bash("no-such-command")),
    "bash strips colours": same(bash(r"printf '\033[1;31mred\033[0m \033[2K\033[?25lplain\n'")),
    "bash replaces what is no UTF-8": same(bash(r"printf 'caf\351'")),
    "bash keeps inner blank lines": same(bash(r"printf '\n\n a \n\n b \n\n'")),
    "bash takes many lines": same(bash("for i in 1 2\ndo\n  echo $i\ndone\ncat <<E\nhere $((1+1))\nE\n# the end")),
    "bash takes quotes": same(bash("""echo 'it'"'"'s' "a  b" $'tab\\tx' \\\\ `echo back`""")),
    "bash prints without a newline": same(bash("printf abc")),
    "bash leaves by exit": same(bash("echo bye; exit 3"), ("bash", {"restart": True}), bash("echo on")),
    "bash leaves by exit 0": same(bash("exit")),
    "bash ends at the first failure if it was told so": same(bash("set -e; echo a; false; echo b")),
    "bash is restarted": same(bash("x=5; cd /"), ("bash", {"restart": True}), bash("echo ${x-none}; ls")),
    "bash is restarted first of all": same(("bash", {"restart": True}), bash("echo on")),
    "bash runs into its timeout": same(
        bash("echo a; sleep 30", timeout_ms=200),
        bash("echo more"),
        ("bash", {"restart": True, "command": "echo not run"}),
        bash("echo on"),
    ),
    "bash runs into no time at all": same(bash("sleep 30", timeout_ms=-1)),
    "bash has no timeout of zero": same(bash("echo on", timeout_ms=0)),
    "bash wants a command": same(("bash", {}), bash(""), ("bash", {"restart": False}), ("bash", {"command": None})),
    "bash goes on while a job runs": same(bash("sleep 30 >/dev/null 2>&1 & echo on"), bash("jobs | wc -l; kill %1")),
    "bash sees a child killed": same(bash("sh -c 'kill -9 $$'; echo $?")),
    # what is asked
    "arguments are missing": same(
        ("read", {}), ("write", {"file_path": "f"}), ("edit", {"file_path": "f"}), ("glob", {})
    ),
    "arguments are unknown": same(("read", {"file_path": "f", "more": 1}), ("bash", {"cmd": "x"}), ("grep", {"": ""})),
    "arguments are of another kind": same(
        ("read", {"file_path": 5}),
        ("read", {"file_path": None}),
        ("read", {"file_path": "f", "view_range": "1-2"}),
        ("read", {"file_path": "f", "view_range": [1.5, 2]}),
        ("bash", {"command": ["ls"]}),
        ("bash", {"command": "x", "timeout_ms": "soon"}),
        ("bash", {"restart": "perhaps"}),
    ),
    "arguments come as strings": same(
        bash("echo on", timeout_ms="5000", restart="false"),
        ("bash", {"restart": "true"}),
        ("read", {"file_path": "f", "view_range": ["1", "1"]}),
        before="echo line >f",
    ),
    # read
    "read says the text": same(read("f"), read("./x/../f"), read("e"), before="printf 'a\\r\\n\\tb' >f; touch e"),
    "read says lines": same(
        *(
            read("f", *lines)
            for lines in ((1, 2), (2, 2), (0, 1), (-3, 2), (3, 0), (3, -1), (4, 9), (9, 12), (3, 2), (1, 4), (1, 5))
        ),
        read("none", 1, 2),
        before="printf 'one\\ntwo\\nthree\\nfour\\n' >f",
    ),
    "read wants two lines": same(
        read("f", 1),
        read("f", 1, 2, 3),
        ("read", {"file_path": "f", "view_range": []}),
        ("read", {"file_path": "f", "view_range": None}),
        before="echo x >f",
    ),
    "read finds nothing": same(
        read("none"), read("d/none"), read("f/none"), read("none/none"), read("x" * 300), before="mkdir d; touch f"
    ),
    "read finds no file": same(read("d"), read(""), read("."), read("fifo"), before="mkdir d; mkfifo fifo"),
    "read stays inside": same(
        *(
            read(path)
            for path in (
                "/etc/passwd",
                "../../../../../../etc/passwd",
                "/",
                "/proc/self/environ",
                "/dev/zero",
                "d/../../x",
            )
        ),
        before="mkdir d",
    ),
    "read follows symlinks that stay inside": same(
        *(
            read(path)
            for path in (
                "to-file",
                "to-folder/f",
                "absolute",
                "out",
                "root/etc/passwd",
                "up/passwd",
                "dangling",
                "dangling-out",
                "loop",
                "loop/x",
                "to-file/x",
                "to-folder",
                "to-folder/../d/f",
            )
        ),
        before=LINKS,
    ),
    "read follows 40 symlinks that lead nowhere": same(
        read("l1"),
        read("l6"),
        read("l5"),
        before="for i in $(seq 45); do ln -s l$((i + 1)) l$i; done",
    ),
    "read reads what is named strangely": same(
        *(read(path) for path in ("a b", "a\nb", "-rf", "*", "caf\u00e9", "\U0001f600", "'\"$(x)", "~", "\\n")),
        before=r"""
for f in 'a b' $'a\nb' -rf '*' café 😀 "'\"\$(x)" '~' '\n'; do echo "$f" >"./$f"; done""",
    ),
    "read has a limit": same(
        read("most"),
        read("more"),
        read("more", 1, 2),
        read("more", 2, 2),
        read("more", 3, 3),
        read("more", 1, 0),
        read("more", 4, 9),
        before="""
head -c 262144 /dev/zero | tr '\\0' x >most
{ echo first; echo second; head -c 300000 /dev/zero | tr '\\0' x; } >more""",
    ),
    "read looks into a sparse file": same(
        read("sparse"), read("sparse", 1, 1), read("sparse", 2, 3), before="truncate -s 50M sparse"
    ),
    "read shows images and documents": same(
        *(read(f"i.{end}") for end in ("png", "JPG", "jpeg", "gif", "webp", "pdf", "svg")),
        before="for e in png JPG jpeg gif webp pdf svg; do echo $e >i.$e; done",
    ),
    "read shows no lines of an image": same(read("i.png", 1, 2), before="echo x >i.png"),
    "read shows images up to 5 MiB": same(
        read("most.png"),
        read("more.png"),
        read("more.pdf"),
        before="""
truncate -s 3932160 most.png; truncate -s 3932161 more.png; truncate -s 20971521 more.pdf""",
    ),
    "read takes the name that a symlink leads to": same(
        read("text"), read("l.png"), before="echo x >i.png; echo y >t; ln -s i.png text; ln -s t l.png"
    ),
    "read knows a binary file": same(read("binary"), read("nul"), before=BYTES),
    # write
    "write says how many characters": same(
        write("f", "one\ntwo"), read("f"), write("f", "é😀"), read("f"), write("f", ""), read("f")
    ),
    "write makes folders": same(write("a/b/c/f", "x"), bash("find a | sort")),
    "write keeps newlines": same(write("f", "a\r\nb\rc\n"), bash("od -c f")),
    "write stays inside": same(
        *(write(path, "x") for path in ("/etc/x", "../x", "/tmp-x", "out", "root/tmp/x", "dangling-out", "loop")),
        before=LINKS,
    ),
    "write follows symlinks that stay inside": same(
        write("to-file", "x"),
        write("to-folder/g", "y"),
        write("dangling", "z"),
        bash("cat d/f d/g nowhere; readlink dangling to-file"),
        before=LINKS,
    ),
    "write finds no file": same(write("d", "x"), write("", "x"), write("/", "x"), before="mkdir d"),
    "write keeps the mode and the other names of a file": same(
        write("f", "new"), bash("stat -c %a f; cat g"), before="echo old >f; chmod 741 f; ln f g"
    ),
    "write is longer and shorter": same(write("f", "x" * 100_000), write("f", "short"), bash("cat f")),
    # edit
    "edit replaces what stands there once": same(edit("f", "b", "B"), read("f"), before="printf 'a b c\\n' >f"),
    "edit finds nothing": same(
        edit("f", "x", "y"),
        edit("none", "x", "y"),
        edit("d", "x", "y"),
        edit("/etc/passwd", "x", "y"),
        before="mkdir d; echo a >f",
    ),
    "edit finds it more than once": same(
        edit("f", "a", "b"), read("f"), edit("f", "a", "b", replace_all=True), read("f"), before="echo aXaXa >f"
    ),
    "edit replaces all that is there once": same(
        edit("f", "a", "b", replace_all=True), edit("f", "b", "c", replace_all=False), read("f"), before="echo a >f"
    ),
    "edit takes an empty string": same(
        edit("f", "", "x"),
        edit("e", "", "new"),
        read("e"),
        edit("e", "new", ""),
        read("e"),
        before="echo ab >f; touch e",
    ),
    "edit takes lines": same(
        edit("f", "a\r\nb", "a\nb"), bash("od -c f"), edit("f", "é", "e"), before="printf 'a\\r\\nb\\né' >f"
    ),
    "edit has a limit": same(edit("f", "x", "y"), before="head -c 262145 /dev/zero >f"),
    "edit leaves what is no text": same(
        edit("latin", "caf", "x"), edit("binary", "a", "b"), bash("od -c latin"), before=BYTES
    ),
    "edit follows symlinks that stay inside": same(
        edit("to-file", "in", "IN"), read("d/f"), edit("out", "root", "x"), before=LINKS
    ),
    # glob
    "glob finds the newest first": same(
        *(
            glob(pattern)
            for pattern in (
                "**/*.py",
                "*.py",
                "a/*.py",
                "a/**/*.py",
                "*/*.py",
                "**/t*.py",
                "**/[!t]*.py",
                "**/t?o.py",
                "./a/./two.py",
                "a/b/three.py",
                "*/b/*",
                ".*/*.py",
            )
        ),
        before=TREE,
    ),
    "glob finds nothing": same(
        glob("*.txt"), glob("*", "none"), glob("*", "one.py"), glob("none/*"), glob("one.py/*"), before=TREE
    ),
    "glob looks into a folder": same(
        glob("*.py", "a"), glob("**/*.py", "a/b"), glob("*.py", "link"), glob("*.py", "."), before=TREE
    ),
    "glob finds folders": same(glob("a/*/"), glob("*/b/"), before=TREE),
    "glob stays inside": same(
        glob("/etc/*"),
        glob("../*"),
        glob("a/../../*"),
        glob("*", "/etc"),
        glob("*", "out"),
        glob("*", ".."),
        glob("out/*"),
        glob("out/etc/passwd"),
        glob("ou*/*"),
        before=TREE,
    ),
    "glob finds symlinks that stay inside": same(
        glob("dangl*"), glob("file-link"), glob("ou*"), glob("link/*.py"), before=TREE
    ),
    "glob takes no pattern that is empty": same(glob("")),
    "glob finds 200": same(glob("*"), before="for i in $(seq 210); do touch -d @$((1600000000 + i)) f$i; done"),
    # grep
    "grep finds lines": same(
        grep("say"), grep("two|three"), grep(r"say \.?\w+/"), grep("SAY"), grep("(?i)SAY"), before=TREE, unordered=True
    ),
    "grep looks into a folder or a file": same(
        grep("say", "a/b"), grep("say", "one.py"), grep("say", "file-link"), grep("say", "link/two.py"), before=TREE
    ),
    "grep finds nothing": same(grep("none"), grep("say", "none"), grep("x", "fifo"), before=TREE + "; mkfifo fifo"),
    "grep stays inside": same(
        grep("root", "/etc/passwd"), grep("root", "out"), grep("x", ".."), grep("root:"), before=TREE
    ),
    "grep passes over what is no text": same(
        grep("[a-z]"), before=BYTES + "; head -c 2500 /dev/zero | tr '\\0' x >long; printf 'x\\r\\n' >>long"
    ),
    "grep refuses what is no expression": same(
        grep("("), grep("[a"), grep("*"), grep("a{2,1}"), grep(r"(?P<a>x)(?P<a>y)"), grep("\\")
    ),
}
