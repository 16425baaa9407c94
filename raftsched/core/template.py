"""Rows of workflow templates: task documents with places, kept under a name.

A document is opaque here: who accepts a request fills in its places, and ``apply`` sees the tasks
that come of it.
"""

from __future__ import annotations

import msgspec

#: Longest name of a template, in characters.
NAME_MAX = 64
#: Bytes of one template's document.
DOCUMENT_BYTES_MAX = 256 * 1024
#: Templates that are kept.
TEMPLATES_MAX = 1_000


class Template(msgspec.Struct, frozen=True, array_like=True):
    """A task document with places for parameters."""

    name: str
    #: As JSON, as it was asked for; not looked into by ``apply``.
    document: bytes
    namespace: str = "default"
    #: Rises with every change of the document.
    version: int = 1
    created_at: int = 0
    modified_at: int = 0
    modify_index: int = 0
