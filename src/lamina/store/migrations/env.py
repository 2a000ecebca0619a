"""Run by Alembic: migrate on the connection that `lamina.store.schema` hands over, in its transaction."""

from alembic import context

from lamina.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
