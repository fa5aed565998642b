"""Stories of the SDK's own sandbox tools, as a model sees what they say."""

from __future__ import annotations

from tests.official.ground import Ground, answers, bash, call


async def tools(ground: Ground) -> None:
    """Files are written, read, edited and found, in the working directory and nowhere else."""
    async with ground.stage() as stage:
        there = stage.workdir.resolve()
        events = await stage.served(
            call("write", file_path="a/b.txt", content="one two\nthree\n"),
            call("read", file_path="a/b.txt"),
            call("read", file_path="a/b.txt", view_range=[2, 2]),
            call("edit", file_path="a/b.txt", old_string="two", new_string="2"),
            call("edit", file_path="a/b.txt", old_string="two", new_string="2"),
            call("edit", file_path="a/b.txt", old_string="e", new_string="E"),
            call("glob", pattern="**/*.txt"),
            call("glob", pattern="*.nothing"),
            call("grep", pattern="thr.e"),
            call("grep", pattern="nowhere"),
            call("grep", pattern="("),
            call("read", file_path="missing"),
            call("read", file_path="/etc/passwd"),
            call("read", path="a/b.txt"),
        )

    results = iter(answers(events))
    assert next(results) == ("wrote 14 bytes to a/b.txt", False)
    assert next(results) == ("one two\nthree\n", False)
    text, failed = next(results)
    assert (text.strip(), failed) == ("three", False)
    assert next(results) == ("edited a/b.txt (1 replacement(s))", False)
    assert next(results) == ("edit: old_string not found in a/b.txt", True)
    assert next(results) == ("edit: old_string appears 3 times in a/b.txt (must be unique)", True)
    assert next(results) == (str(there / "a" / "b.txt"), False)
    assert next(results) == ("no matches", False)
    assert next(results) == (f"{there / 'a' / 'b.txt'}:2:three", False)
    assert next(results) == ("no matches", False)
    assert next(results)[1] is True
    assert next(results) == ("read: missing: no such file or directory", True)
    assert next(results) == ("read: path '/etc/passwd' is outside the session's working directory", True)
    text, failed = next(results)
    assert ("Invalid arguments" in text, failed) == (True, True)
    assert not list(results)


async def bash2(ground: Ground) -> None:
    """The shell lasts from call to call, until it exits or is too slow; then it has to be asked for again."""
    async with ground.stage() as stage:
        events = await stage.served(
            bash("x=5; mkdir sub; cd sub"),
            bash("echo $x; basename $PWD; echo $ANTHROPIC_API_KEY"),
            bash("echo out; echo err >&2; false"),
            bash("exit 3"),
            bash("echo there"),
            call("bash", restart=True),
            bash("echo ${x:-gone}; basename $PWD"),
            call("bash", command="sleep 20", timeout_ms=300),
            bash("echo there"),
            call("bash"),
        )

        results = iter(answers(events))
        assert next(results) == ("(no output)", False)
        assert next(results) == ("5\nsub", False)
        assert next(results) == ("out\nerr", True)
        assert next(results)[0] == "(no output)"
        dead = ("bash: bash session terminated; restart required", True)
        assert next(results) == dead
        assert next(results) == ("bash session restarted", False)
        assert next(results) == (f"gone\n{stage.workdir.name}", False)
        text, failed = next(results)
        assert (text.startswith("bash: bash command timed out after"), failed) == (True, True)
        assert next(results) == dead
        assert next(results)[1] is True
        assert not list(results)
