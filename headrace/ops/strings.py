"""Ops on strings. XLA has no strings: all of them run on the host, on arrays of `bytes` objects."""

from __future__ import annotations

import numpy as np

from headrace.graph import shapes
from headrace.graph.op_def import define

# ---- StringJoin

string_join = define(
    "StringJoin",
    "inputs: N*string -> output: string",
    "N: int >= 1, separator: string = ''",
    host_only=True,
)


@string_join.shape
def _string_join_shape(op, inputs):
    # Scalars broadcast; all others have one shape.
    return (
        shapes.merge_all(op, (x for x in inputs if x != ()), "inputs")
        if any(x != () for x in inputs)
        else ()
    )


@string_join.host
def _string_join_host(op, inputs):
    separator = op.attr("separator")
    separator = separator if isinstance(separator, bytes) else separator.encode()
    sizes = {x.shape for x in inputs if x.ndim}
    if len(sizes) > 1:
        raise op.invalid(
            f"Input shapes do not match: {', '.join(str(list(x.shape)) for x in inputs)}; they need one shape."
        )
    joined = np.empty(sizes.pop() if sizes else (), dtype=object)
    columns = [x.reshape(-1).tolist() if x.ndim else [x.item()] * joined.size for x in inputs]
    joined.reshape(-1)[:] = [separator.join(parts) for parts in zip(*columns, strict=True)]
    return joined


string_join.not_differentiable()
