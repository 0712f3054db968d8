"""What XLA cannot compile, found out while tracing: the step is then interpreted."""

from __future__ import annotations

from typing import Any


class NotCompilable(Exception):
    """An operation needs a value (of a shape, of an axis) that is only known when the program runs."""

    def __init__(self, op: Any, reason: str) -> None:
        super().__init__(f"{op.type} op {op.name!r}: {reason}")
        self.op = op
        self.reason = reason
