"""Nothing is promised, and no code is in the registry, without a test that says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import arrowslit
from arrowslit.errors import CODES

TESTS = Path(__file__).parent.parent
SOURCE = Path(arrowslit.__file__).parent
KEPT_SO_FAR = {"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P10", "P11", "P12"}
RAISED = {"Error", "Refused", "Deny"}  # what is made with a code


@cache
def parsed(folder: Path) -> list[tuple[Path, ast.Module]]:
    """Every module in a folder but this one."""
    paths = [path for path in folder.rglob("*.py") if path != Path(__file__)]
    return [(path, ast.parse(path.read_text())) for path in paths]


def promises(module: ast.Module) -> Iterator[str]:
    """The ids in `pytest.mark.promise("Pn")` on tests of a module, or on all of them."""
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "promise":
            yield from (
                each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def texts(folder: Path) -> Iterator[str]:
    """Every string in a folder's modules."""
    for _, module in parsed(folder):
        constants = (node.value for node in ast.walk(module) if isinstance(node, ast.Constant))
        yield from (text for text in constants if isinstance(text, str))


def test_every_promise_has_a_test_that_carries_its_id() -> None:
    found = {promise for path, module in parsed(TESTS) if path.name.startswith("test_") for promise in promises(module)}

    assert found >= KEPT_SO_FAR
    assert found <= {f"P{number}" for number in range(1, 16)}


def test_every_code_is_named_in_a_test() -> None:
    named = {found for text in texts(TESTS) for found in re.findall(r"^(?:.*code: )?([a-z_]+)\b", text)}

    assert set(CODES) - named == set()


def test_every_code_in_the_source_is_in_the_registry() -> None:
    for path, module in parsed(SOURCE):
        if "inside" in path.parts:  # runs in a sandbox, by itself: what it refuses is text
            continue
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", None))
            if name in RAISED and call.args and isinstance(call.args[0], ast.Constant):
                assert call.args[0].value in CODES, f"{path}:{call.lineno}"


def test_no_code_stands_in_the_registry_that_nothing_says() -> None:
    registry = SOURCE / "errors.py"
    said = {
        node.value
        for path, module in parsed(SOURCE)
        if path != registry
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert set(CODES) - said == set()
