"""The environment that sends the programs in a sandbox to its proxy, each by the variables that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from arrowslit.policy.egress import Rule

_ITSELF = ("localhost", "127.0.0.1", "::1")


def environment_for_sandbox(proxy: str, rules: Iterable[Rule]) -> Mapping[str, str]:
    """Variables for `proxy`, e.g. `http://127.0.0.1:3128`, to be added to those of every command.

    What listens inside the sandbox is reached directly, unless a rule names that host: then the one outside is meant.
    Without rules they are the same, so that a refusal says what it is and is recorded.
    """
    direct = ",".join(name for name in _ITSELF if not any(rule.covers(name) for rule in rules))
    both = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy, "no_proxy": direct}
    return {
        **both,
        **{name.upper(): value for name, value in both.items()},
        "npm_config_proxy": proxy,
        "npm_config_https_proxy": proxy,
        "npm_config_noproxy": direct,
        **_SPECIFIC,
    }


_SPECIFIC = {
    "NODE_USE_ENV_PROXY": "1",  # fetch of Node.js 22.21 and 24 then reads the variables above
    "NO_UPDATE_NOTIFIER": "1",  # npm and others ask for newer versions of themselves
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_RETRIES": "1",  # a refusal stays one; pip would try five times, ever more slowly
    "GIT_TERMINAL_PROMPT": "0",  # nobody is there to type a password
}
