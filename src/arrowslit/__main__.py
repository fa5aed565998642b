"""`python -m arrowslit` is the command line as well."""

from __future__ import annotations

from arrowslit.cli.main import main

main()
