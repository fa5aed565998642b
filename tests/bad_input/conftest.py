from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bad_input.scene import Scene
from tests.support.inprocess import in_process

NOT_YET = {
    "/v1 says it without a hint": [
        "test_a_body_that_is_wrong_is_refused[PROTO-01 a brace]",
        "test_a_body_that_is_wrong_is_refused[PROTO-01 more behind it]",
        "test_a_body_that_is_wrong_is_refused[PROTO-01 a NUL]",
        "test_a_body_that_is_wrong_is_refused[PROTO-02 Latin-1]",
        "test_a_body_that_is_wrong_is_refused[PROTO-02 half a surrogate pair]",
        "test_a_body_that_is_wrong_is_refused[PROTO-03 NaN]",
        "test_a_body_that_is_wrong_is_refused[PROTO-04 100 deep]",
        "test_a_body_that_is_wrong_is_refused[PROTO-04 100,000 deep]",
        "test_a_body_that_is_wrong_is_refused[DOS-12 more than 1 MiB]",
        "test_a_request_that_is_wrong_is_refused[a method that is not there]",
        "test_a_request_that_is_wrong_is_refused[API-05 a limit of -1]",
        "test_a_request_that_is_wrong_is_refused[API-05 a limit of 0]",
        "test_a_request_that_is_wrong_is_refused[API-05 a limit of 10^9]",
        "test_a_request_that_is_wrong_is_refused[API-05 another digit]",
        "test_a_request_that_is_wrong_is_refused[TEN-14 a page that is none]",
        "test_a_method_that_is_not_there_is_refused[DELETE of all tunnels]",
    ],
    "said in plain text by Starlette": [
        "test_a_path_leads_to_its_own_place_or_nowhere[PROTO-23 an escaped letter before]",
        "test_a_path_leads_to_its_own_place_or_nowhere[PROTO-23 capitals before]",
        "test_a_path_leads_to_its_own_place_or_nowhere[PROTO-23 capitals of the API]",
        "test_a_path_leads_to_its_own_place_or_nowhere[nothing there]",
        "test_a_path_leads_to_its_own_place_or_nowhere[the root]",
        "test_a_method_that_is_not_there_is_refused[POST for a sign of life]",
    ],
    "Starlette's ClientDisconnect is logged as a failure": [
        "test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error[close]",
        "test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error[reset]",
    ],
    "a credential as the name of a parameter is not looked for": [
        "test_a_credential_does_not_belong_into_a_url[/mcp/stock/inventory-AUTHN-06 {key}=1]",
        "test_a_credential_does_not_belong_into_a_url[/v1/tunnels-AUTHN-06 {key}=1]",
        "test_a_credential_does_not_belong_into_a_url[/connect-AUTHN-06 {key}=1]",
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These rows are right, and the parts they meet are not yet: strict, so that nobody forgets to take them out."""
    for reason, names in NOT_YET.items():
        for item in items:
            if item.name in names:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with in_process(tmp_path_factory.mktemp("bad-input")) as house:
        scene = Scene(house)
        await scene.furnish()
        logging.getLogger().addHandler(scene.log)
        yield scene
        logging.getLogger().removeHandler(scene.log)
