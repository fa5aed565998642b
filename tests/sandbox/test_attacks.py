from __future__ import annotations

import re

import pytest

from tests.sandbox.attacks import ATTACKS, Attack
from tests.sandbox.canaries import SECRET, Canaries
from tests.sandbox.hosts import Host
from tests.sandbox.inventions import INVENTIONS


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=f"{cases} {attack.id}")
        for table in (ATTACKS, INVENTIONS)
        for cases, attacks in table.items()
        for attack in attacks
    ],
)
def test_an_attack_is_refused(attack: Attack, worker: Host, canaries: Canaries) -> None:
    names = canaries.names() | {"WORKER": str(worker.process.pid)}
    command = attack.command
    for name, value in names.items():
        command = command.replace("{" + name + "}", value)

    answer = (worker.python if attack.python else worker.shell)(command)

    assert "ESCAPED" not in answer.text, answer
    assert SECRET not in answer.text, answer
    assert re.search(attack.answer, answer.stdout, re.MULTILINE), answer
    assert canaries.process.poll() is None
