"""Ops that look at values while a graph runs: CheckNumerics, Assert, Print, and the text they print."""

from __future__ import annotations

import sys
import threading
import time

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks
from headrace.lowering.summarize import summarize_edges, summarize_first

# ---- CheckNumerics

check_numerics = define(
    "CheckNumerics",
    "tensor: T -> output: T",
    "T: {bfloat16, half, float, double}, message: string",
    effects=Effect.STATEFUL | Effect.FALLIBLE,
)
check_numerics.shape(shapes.unchanged)


@check_numerics.lower
def _check_numerics_lower(op, x):
    nan, inf = jnp.any(jnp.isnan(x)), jnp.any(jnp.isinf(x))
    message = op.attr("message")
    checks.fail_if(op, nan & inf, f"{message} : Tensor had Inf and NaN values")
    checks.fail_if(op, nan, f"{message} : Tensor had NaN values")
    checks.fail_if(op, inf, f"{message} : Tensor had Inf values")
    return x


@check_numerics.host
def _check_numerics_host(op, x):
    found = [word for word, bad in (("Inf", np.isinf(x).any()), ("NaN", np.isnan(x).any())) if bad]
    if found:
        raise op.invalid(f"{op.attr('message')} : Tensor had {' and '.join(found)} values")
    return x


@check_numerics.gradient
def _check_numerics_gradient(op, dy):
    return raw.CheckNumerics(
        dy,
        message=f"Not a number (NaN) or infinity (Inf) values detected in gradient. {op.attr('message')}",
    )


# ---- Assert

assert_op = define(
    "Assert",
    "condition: bool, data: T ->",
    "T: list(type) >= 1, summarize: int = 3",
    effects=Effect.STATEFUL | Effect.FALLIBLE,
    checked_inputs=("condition",),
    known_strings=True,
)
# Of larger arrays a program gives no more than the first rows back for the message.
_SHOWN_ELEMENTS = 1024


@assert_op.shape
def _assert_shape(op, condition, data):
    shapes.with_rank(op, condition, 0, "condition")


def _assertion_failed(limit, *data):
    shown = (d if isinstance(d, str) else summarize_first(np.asarray(d), limit) for d in data)
    return f"assertion failed: {' '.join(f'[{d}]' for d in shown)}"


@assert_op.lower
def _assert_lower(op, condition, data):
    if isinstance(condition, np.ndarray) and condition:
        return ()
    limit = op.attr("summarize")
    texts = {
        i: summarize_first(np.asarray(d), limit)
        for i, d in enumerate(data)
        if isinstance(d, (np.ndarray, np.generic))
    }
    traced = [d for i, d in enumerate(data) if i not in texts]
    rows = max(limit, 0) + 1
    traced = [d[:rows] if d.ndim and d.size > _SHOWN_ELEMENTS else d for d in traced]

    def message(*values):
        rest = iter(values)
        return _assertion_failed(
            limit, *(texts[i] if i in texts else next(rest) for i in range(len(data)))
        )

    checks.fail_if(op, condition == 0, message, *traced)
    return ()


@assert_op.host
def _assert_host(op, condition, data):
    if not condition:
        raise op.invalid(_assertion_failed(op.attr("summarize"), *data))
    return ()


assert_op.not_differentiable()


# ---- Print

print_op = define(
    "Print",
    "input: T, data: U -> output: T",
    "T: type, U: list(type) >= 0, message: string = '', first_n: int = -1, summarize: int = 3",
    effects=Effect.STATEFUL,
    host_only=True,
)


@print_op.shape
def _print_shape(op, x, data):
    return x


_printed: dict[tuple[int, str], int] = {}
_printed_lock = threading.Lock()


@print_op.host
def _print_host(op, x, data):
    limit = op.attr("first_n")
    if limit >= 0:
        with _printed_lock:
            key = (id(getattr(op, "graph", None)), op.name)
            _printed[key] = _printed.get(key, 0) + 1
            if _printed[key] > limit:
                return x
    text = "".join(f"[{summarize_first(np.asarray(d), op.attr('summarize'))}]" for d in data)
    message = op.attr("message")
    message = message if isinstance(message, str) else message.decode(errors="replace")
    print(message + text, file=sys.stderr, flush=True)
    return x


@print_op.gradient
def _print_gradient(op, dy):
    return [dy] + [None] * (len(op.inputs) - 1)


# ---- PrintV2

print_v2 = define(
    "PrintV2",
    "input: string ->",
    "output_stream: string = 'stderr', end: string = '\\n'",
    effects=Effect.STATEFUL,
    host_only=True,
)
print_v2.shape(shapes.no_outputs)


@print_v2.host
def _print_v2_host(op, text):
    shown = text[()].decode(errors="replace") + op.attr("end")
    where = op.attr("output_stream")
    if where == "stdout":
        print(shown, end="", flush=True)
    elif where == "stderr":
        print(shown, end="", file=sys.stderr, flush=True)
    elif where.startswith("file://"):
        with open(where[7:], "a", encoding="utf-8") as file:
            file.write(shown)
    else:
        import logging

        level = {
            "log(info)": logging.INFO,
            "log(warning)": logging.WARNING,
            "log(error)": logging.ERROR,
        }.get(where)
        if level is None:
            raise op.invalid(f"Unknown output stream: {where!r}")
        logging.getLogger("headrace").log(level, shown.rstrip("\n"))
    return ()


print_v2.not_differentiable()

# ---- StringFormat

string_format = define(
    "StringFormat",
    "inputs: T -> output: string",
    "T: list(type) >= 0, template: string = '%s', placeholder: string = '%s', summarize: int = 3",
    host_only=True,
)


@string_format.shape
def _string_format_shape(op, inputs):
    template, mark = op.attr("template"), op.attr("placeholder")
    if template.count(mark) != len(inputs):
        raise op.error(
            f"num placeholders in template and num inputs must match: {template.count(mark)} vs. {len(inputs)}"
        )
    return ()


@string_format.host
def _string_format_host(op, inputs):
    first, *rest = op.attr("template").split(op.attr("placeholder"))
    shown = [summarize_edges(np.asarray(x), op.attr("summarize")) for x in inputs]
    return np.array(
        (first + "".join(s + r for s, r in zip(shown, rest, strict=True))).encode(), dtype=object
    )


string_format.not_differentiable()

# ---- Timestamp

timestamp = define("Timestamp", "-> ts: double", effects=Effect.STATEFUL, host_only=True)
timestamp.shape(shapes.scalar)


@timestamp.host
def _timestamp_host(op):
    return np.float64(time.time())


timestamp.not_differentiable()
