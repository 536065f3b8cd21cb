"""The first schema: entries, runs, leases, notes, marks.

Takes an empty database; gives the tables of `adapters.store`; never touches rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "entries",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("run", sa.String(80), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("previous", sa.String(40), nullable=False),
        sa.Column("hash", sa.String(40), nullable=False),
        sa.Column("written", sa.String(32), nullable=False),
        sa.UniqueConstraint("model", "run", "step", name="one_writer_a_step"),
    )
    op.create_table(
        "runs",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("run", sa.String(80), primary_key=True),
        sa.Column("wake_at", sa.String(32), nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
    )
    op.create_index("runs_due", "runs", ["model", "ended", "wake_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("key", sa.String(40), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("marks", "notes", "leases", "runs", "entries"):
        op.drop_table(table)
