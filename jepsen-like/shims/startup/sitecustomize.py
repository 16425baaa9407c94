"""Read by Python at its start: gives functions of named modules other defaults once they are there.

``JEPSEN_LIKE_PRESETS``, as JSON: ``{"MODULE": {"NAME": {"argument": value}}}``.  What is called
NAME in MODULE is called with these arguments beside its own.  So a peer can have small files, which
no configuration of a user's asks for, and its program is as it is.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_PRESETS: dict[str, dict[str, dict[str, Any]]] = json.loads(
    os.environ.get("JEPSEN_LIKE_PRESETS", "{}")
)


class _Presetting(importlib.abc.Loader):
    """The module's own loader, and the defaults after it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for name, arguments in _PRESETS[module.__name__].items():
            setattr(module, name, functools.partial(getattr(module, name), **arguments))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are named, as everybody else would."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _PRESETS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Presetting(spec.loader)
        return spec


if _PRESETS:
    sys.meta_path.insert(0, _Finder())
