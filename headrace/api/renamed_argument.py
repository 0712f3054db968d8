"""Arguments that have an old and a new name: `dim` and `axis`, `keep_dims` and `keepdims`."""

from __future__ import annotations

from typing import Any


def renamed(new_name: str, new_value: Any, old_name: str, old_value: Any) -> Any:
    """The one of the two values that is given. Raises ValueError: both are."""
    if new_value is None:
        return old_value
    if old_value is not None:
        raise ValueError(f"Cannot specify both '{old_name}' and '{new_name}'")
    return new_value
