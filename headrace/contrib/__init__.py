"""`tf.contrib`: what TensorFlow 1 kept beside its stable names; each part is imported when it is first asked for."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

_PARTS = frozenset(part.name for part in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"tf.contrib has no part {name!r}; it has {', '.join(sorted(_PARTS))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS})
