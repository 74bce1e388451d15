"""Run by Alembic, which hands over the connection that `upgrade` opened; there is no other way in."""

from alembic import context

from vedette.storage.monitor_tables import metadata

# A version table of its own: the catalog and the monitor's store may be one PostgreSQL database.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table="monitor_version"
)
with context.begin_transaction():
    context.run_migrations()
