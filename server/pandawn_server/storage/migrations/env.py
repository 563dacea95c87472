"""Entry point of alembic: runs the migrations on the connection of `Database.migrate`."""

from __future__ import annotations

from alembic import context

from pandawn_server.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot make most changes in place, so alembic copies the table.
    render_as_batch=True,
)
# The caller's transaction spans all steps: a failed migration leaves nothing behind.
context.run_migrations()
