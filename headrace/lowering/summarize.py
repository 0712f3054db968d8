"""Arrays as text, in the two ways in which TensorFlow prints them (`tf.Print`, `tf.print`)."""

from __future__ import annotations

import numpy as np


def number_text(value: object) -> str:
    """One element: the shortest of two precisions that reads back as the same number; 1 and 0 for bools."""
    if isinstance(value, bytes):
        return escape(value)
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (np.floating, float)) or type(value).__name__ == "bfloat16":
        number = float(value)  # type: ignore[arg-type]
        if np.isnan(number):
            return "nan"
        if np.isinf(number):
            return "inf" if number > 0 else "-inf"
        short, long, back = (15, 17, float) if isinstance(value, np.float64) else (6, 9, np.float32)
        text = f"{number:.{short}g}"
        if back(text) != back(number):
            text = f"{number:.{long}g}"
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}{e}{int(exponent):+03d}" if e else text
    if isinstance(value, (np.complexfloating, complex)):
        return f"({number_text(value.real)},{number_text(value.imag)})"
    return str(int(value))  # type: ignore[call-overload]


def escape(text: bytes) -> str:
    """A string with what does not print written as C escapes."""
    marks = {10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return "".join(marks.get(b) or (chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in text)


def summarize_first(array: np.ndarray, limit: int) -> str:
    """The first `limit` elements in row-major order, nested by rows, `...` for the rest (-1: all); `tf.Print`, `tf.Assert`."""
    if array.ndim == 0:
        return number_text(array[()])
    if array.size == 0:
        return ""
    limit = array.size if limit < 0 else limit
    flat = array.ravel()
    shown = 0

    def rows(shape: tuple[int, ...], inside: bool) -> str:
        nonlocal shown
        text = ""
        if len(shape) == 1:
            for i in range(shape[0]):
                if shown >= limit:
                    return text + "..." if inside else text
                text += (" " if i else "") + number_text(flat[shown])
                shown += 1
            return text
        for _ in range(shape[0]):
            if shown < limit:
                text += f"[{rows(shape[1:], True)}]"
        return text

    return rows(array.shape, False) + ("..." if array.size > limit else "")


def summarize_edges(array: np.ndarray, edge: int) -> str:
    """The first and last `edge` elements along each axis, rows on lines of their own (-1: all); `tf.print`."""

    def show(v: object) -> str:
        return f'"{escape(v)}"' if isinstance(v, bytes) else number_text(v)

    if array.ndim == 0:
        return show(array[()])

    def rows(part: np.ndarray, depth: int) -> str:
        count = part.shape[0]
        if edge < 0 or count <= 2 * edge:
            shown: list[int | None] = list(range(count))
        else:
            shown = [*range(edge), None, *range(count - edge, count)]
        if part.ndim == 1:
            return "[" + " ".join("..." if i is None else show(part[i]) for i in shown) + "]"
        gap = "\n" * (part.ndim - 1) + " " * (depth + 1)
        return "[" + gap.join("..." if i is None else rows(part[i], depth + 1) for i in shown) + "]"

    return rows(array, 0)
