"""Entry point of alembic: runs the migrations on the connection that `Database.migrate` gives it."""

from __future__ import annotations

from alembic import context

from pandawn_server.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most things in place; alembic then copies the table.
    render_as_batch=True,
)
# The caller's transaction spans all steps: a failed migration leaves nothing behind.
context.run_migrations()
