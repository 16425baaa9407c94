"""Words that are stored and shown: what they are is fixed once they were."""

from __future__ import annotations

from enum import StrEnum


class Word(StrEnum):
    """A stable word; hashed as the text it is (Enum's own hash is a Python call per lookup).

    Where every task passes, modules name the words they use once, at their top: Python 3.11 takes
    longer to find a member in its class than to make a row.
    """

    __hash__ = str.__hash__
