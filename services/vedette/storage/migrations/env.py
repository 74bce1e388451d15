"""Run by Alembic, which hands over the connection that `upgrade` opened; there is no other way in."""

from alembic import context

from vedette.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
