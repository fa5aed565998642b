"""Alembic runs this module to run the migrations: on the connection that `store.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from arrowslit.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can alter little; Alembic then copies the table
)
with context.begin_transaction():
    context.run_migrations()
