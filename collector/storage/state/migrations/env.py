"""Run by Alembic: the steps on the connection that `collector.storage.state.store` gives, in its transaction."""

from alembic import context

from collector.storage.state.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
