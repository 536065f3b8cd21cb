"""Alembic's entry: runs the versions beside it over the connection that `adapters.store` brings.

Takes a connection from the configuration; gives the newest schema; never opens a database by itself.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
