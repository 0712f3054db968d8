"""Builds the modules `tf.nn`, `tf.train`, ... from the public names that the api and the side rooms filed."""

from __future__ import annotations

import importlib
import sys
import types

from headrace.api.export import PUBLIC


def build(root: types.ModuleType) -> None:
    """Sets every public name on `root` and its namespaces; a namespace that is a room is that package."""
    filed: set[str] = set()
    while len(filed) < len(PUBLIC):  # importing a room files more names
        for name, value in list(PUBLIC.items()):
            if name not in filed:
                parent, _, last = name.rpartition(".")
                module = _namespace(root, parent) if parent else root
                setattr(module, last, value)
                filed.add(name)


def _namespace(root: types.ModuleType, path: str) -> types.ModuleType:
    module = root
    full = root.__name__
    for part in path.split("."):
        full = f"{full}.{part}"
        child = sys.modules.get(full)
        if child is None:
            try:
                child = importlib.import_module(full)
            except ModuleNotFoundError as error:
                if error.name != full:
                    raise
                child = types.ModuleType(
                    full, f"The public namespace `tf.{full.partition('.')[2]}`."
                )
                child.__path__ = []  # type: ignore[attr-defined]
                sys.modules[full] = child
        setattr(module, part, child)
        module = child
    return module
