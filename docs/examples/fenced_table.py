"""Rows that only the newest attempt may change.  Tried by tests/unit/test_fencing.py.

The database compares and writes in one statement, so this holds for any number of machines; it is
the same for every SQL database.
"""

from __future__ import annotations

import sqlite3

from raftsched.fencing import StaleToken

SCHEMA = """
CREATE TABLE IF NOT EXISTS report (
    name  TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    data  TEXT NOT NULL
)
"""
WRITE = """
INSERT INTO report (name, token, data) VALUES (:name, :token, :data)
ON CONFLICT (name) DO UPDATE SET token = excluded.token, data = excluded.data
WHERE report.token <= excluded.token
"""


def write(database: sqlite3.Connection, name: str, token: int, data: str) -> None:
    """Insert or replace the row.  Raises StaleToken if a newer attempt wrote it."""
    with database:
        done = database.execute(WRITE, {"name": name, "token": token, "data": data})
        if not done.rowcount:
            [highest] = database.execute(
                "SELECT token FROM report WHERE name = ?", (name,)
            ).fetchone()
            raise StaleToken(name, token, highest)
