"""What became of a row that a document describes."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

Row = TypeVar("Row")


class Change(NamedTuple, Generic[Row]):
    """What became of a row that was to be as a document says, or with a dry run would become."""

    row: Row
    #: ``create``, ``update``, ``none``: it stood there already.
    action: str
    #: Fields of the document that say something else than before; known of dry runs alone.
    fields: list[str]
    #: The key had already done this.
    replayed: bool = False

    def plan(self) -> dict[str, Any]:
        """The answer to a dry run."""
        return {"valid": True, "action": self.action, "fields": self.fields}
