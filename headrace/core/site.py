"""Creation sites: which line of the user's program made an operation.

Only code objects and instruction offsets are kept; line numbers and source text are looked up when
somebody asks. Frames are never kept, as they would keep alive every local of the user's program.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType
from typing import Any

# The directory of the package: frames of code in it are not the user's.
PACKAGE_PREFIX = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# (code, offset of the instruction) per frame, the innermost first.
RawStack = tuple[tuple[CodeType, int], ...]
Line = tuple[str, int, str, str]


class _Place:
    """What sites have in common: a file, a line counted from 1, and a function."""

    __slots__ = ()
    filename: Any
    lineno: Any
    function: Any

    @property
    def line(self) -> str:
        """The source text of the line, "" where the file cannot be read."""
        return linecache.getline(self.filename, self.lineno).strip()

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno}, in {self.function}"

    def __repr__(self) -> str:
        return f"Site({self})"


class Site(_Place):
    """One place in a program."""

    __slots__ = ("_code", "_lasti")

    def __init__(self, code: CodeType, lasti: int) -> None:
        self._code = code
        self._lasti = lasti

    @property
    def filename(self) -> str:
        """The file, as Python names it."""
        return self._code.co_filename

    @property
    def lineno(self) -> int:
        """The line, counted from 1."""
        return _line_number(self._code, self._lasti)

    @property
    def function(self) -> str:
        """The name of the function, or `<module>`."""
        return self._code.co_name

    def __reduce__(self) -> tuple:
        return FixedSite, (self.filename, self.lineno, self.function)


class FixedSite(_Place):
    """A place of which only the text is known, as when it came from another process."""

    __slots__ = ("filename", "function", "lineno")

    def __init__(self, filename: str, lineno: int, function: str) -> None:
        self.filename = filename
        self.lineno = lineno
        self.function = function


def _line_number(code: CodeType, lasti: int) -> int:
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def capture(skip_prefix: str = PACKAGE_PREFIX) -> Site:
    """Returns the innermost place on the stack that is not in a file under `skip_prefix`.

    Where there is none, the outermost place.
    """
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(skip_prefix):
        outer = frame.f_back
        if outer is None:
            break
        frame = outer
    return Site(frame.f_code, frame.f_lasti)


def capture_stack() -> RawStack:
    """Returns every place on the caller's stack, the innermost first, to be formatted later."""
    places = []
    frame = sys._getframe(1)
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


def site_of(stack: RawStack, skip_prefix: str = PACKAGE_PREFIX) -> Site | None:
    """Returns what `capture` would have returned instead of `stack`; None if that is empty."""
    for code, lasti in stack:
        if not code.co_filename.startswith(skip_prefix):
            return Site(code, lasti)
    return Site(*stack[-1]) if stack else None


def format_stack(stack: RawStack) -> list[Line]:
    """Returns (filename, line number, function, source line) per place, the outermost first."""
    lines = []
    for code, lasti in reversed(stack):
        number = _line_number(code, lasti)
        text = linecache.getline(code.co_filename, number).strip()
        lines.append((code.co_filename, number, code.co_name, text))
    return lines
