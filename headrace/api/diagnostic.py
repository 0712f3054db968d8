"""Looking at values while a graph runs, and calling Python from it: `tf.Print`, `tf.print`, `tf.Assert`, `tf.py_func`."""

from __future__ import annotations

import sys
from typing import Any

from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.core import dtypes, nest
from headrace.graph import convert, default, raw
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.ops.python_call import PythonFunction


@export("py_func")
def py_func(func: Any, inp: Any, Tout: Any, stateful: bool = True, name: str | None = None) -> Any:
    """Calls a Python function with the values of `inp` as NumPy arrays when the graph runs.

    Tout: the type or list of types of what it returns. stateful: whether equal inputs may give different
    results. Returns a tensor
    where Tout is one type, else a list (the operation where it is empty). There is no gradient.
    """
    if not callable(func):
        raise ValueError(f"Expected func to be callable, got func of type {type(func)}")
    is_list = isinstance(Tout, (list, tuple))
    types = [dtypes.as_dtype(t) for t in (Tout if is_list else [Tout])]
    holder = PythonFunction(func)
    graph = default.get_default_graph()
    # The graph is what keeps the function alive: its node has only the token.
    graph.__dict__.setdefault("_py_funcs_used_in_graph", []).append(holder)
    add = raw.PyFunc if stateful else raw.PyFuncStateless
    result = add(list(inp), token=holder.token, Tout=types, name=name)
    if not types and stateful:
        return graph.get_operations()[-1]
    return result if is_list else result[0]


@export("numpy_function")
def numpy_function(func: Any, inp: Any, Tout: Any, name: str | None = None) -> Any:
    """`py_func` for functions that may have state."""
    return py_func(func, inp, Tout, True, name)


export_op(
    "CheckNumerics",
    "tensor, message",
    "check_numerics",
    "debugging.check_numerics",
    doc="`tensor` itself; the run fails with InvalidArgumentError if it holds a NaN or an infinity.",
)
export_op("Timestamp", "", "timestamp", doc="Seconds since the epoch, when the operation runs.")


@export("verify_tensor_all_finite", "debugging.assert_all_finite")
def verify_tensor_all_finite(
    t: Any = None,
    msg: str | None = None,
    name: str | None = None,
    x: Any = None,
    message: str | None = None,
) -> Tensor:
    """A tensor with the value of `t`; the run fails with `msg` if it holds a NaN or an infinity."""
    value = t if t is not None else x
    text = msg if msg is not None else message
    with name_scope(name, "VerifyFinite", [value]):
        tensor = convert.convert_to_tensor(value, name="x")
        with default.get_default_graph().colocate_with(tensor):
            check = raw.CheckNumerics(tensor, message=text)
            with default.get_default_graph().control_dependencies([check]):
                return raw.Identity(tensor)


@export("add_check_numerics_ops")
def add_check_numerics_ops() -> Operation:
    """An operation that checks every floating-point tensor of the default graph for NaN and infinity."""
    graph = default.get_default_graph()
    found: list[Any] = []
    for op in graph.get_operations():
        for tensor in op.outputs:
            if tensor.dtype in (dtypes.float16, dtypes.float32, dtypes.float64):
                with graph.control_dependencies(found):
                    found = [raw.CheckNumerics(tensor, message=f"{op.name}:{tensor.value_index}")]
    with graph.control_dependencies(found):
        return raw.NoOp(name="check_numerics_all") if found else raw.NoOp()


@export("Assert", "debugging.Assert")
def Assert(
    condition: Any, data: Any, summarize: int | None = None, name: str | None = None
) -> Operation:
    """An operation that fails the run with InvalidArgumentError if `condition` is false; the message shows `data`.

    Let what must not happen then wait for it: `with tf.control_dependencies([assertion])`. summarize: how many
    elements of
    each tensor are shown (3 where None).
    """
    with name_scope(name, "Assert", [condition, data]):
        # Python values become constants twice, as in TensorFlow: seeds that count the nodes of the graph then agree.
        for value in data:
            convert.convert_to_tensor(value)
        return raw.Assert(
            convert.convert_to_tensor(condition, dtypes.bool),
            data,
            summarize=3 if summarize is None else summarize,
        )


@export("Print")
def Print(
    input_: Any,
    data: Any,
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor:
    """`input_` itself; when it is computed, `data` is written to standard error.

    first_n: only the first so many times. summarize: how many elements of each tensor.
    """
    return raw.Print(input_, data, message=message, first_n=first_n, summarize=summarize, name=name)


@export("print")
def print_v2(*inputs: Any, **kwargs: Any) -> Operation:
    """An operation that prints its inputs (tensors, structures of tensors, anything else) when it runs.

    output_stream: sys.stderr, sys.stdout, tf.logging.info..., or "file://path". summarize: elements at each end of an axis
    (3; -1 for all). sep, end: as Python's print. name: of the operation.
    """
    stream = kwargs.pop("output_stream", sys.stderr)
    name = kwargs.pop("name", None)
    summarize = kwargs.pop("summarize", 3)
    sep = kwargs.pop("sep", " ")
    end = kwargs.pop("end", "\n")
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments for tf.print: {kwargs}")
    where = _stream_name(stream)
    if summarize is None:
        summarize = 3
    tensors: list[Tensor] = []
    parts: list[str] = []
    mark = _placeholder(inputs)
    single = inputs[0] if len(inputs) == 1 else None
    if isinstance(single, Tensor) and single.dtype == dtypes.string and single.shape.ndims == 0:
        text = single
    else:
        for item in inputs:
            if isinstance(item, (str, bytes)) and not isinstance(item, Tensor):
                parts.append(item if isinstance(item, str) else item.decode(errors="replace"))
            else:
                parts.append(_template(item, tensors, mark))
        text = raw.StringFormat(
            tensors, template=sep.join(parts), placeholder=mark, summarize=summarize
        )
    return raw.PrintV2(text, output_stream=where, end=end, name=name)


def _placeholder(inputs: Any) -> str:
    """A mark for the places of tensors that does not occur in the text itself."""
    shown = repr(inputs)
    mark = "{}"
    while mark in shown:
        mark = f"<{mark}>"
    return mark


def _template(item: Any, tensors: list[Tensor], mark: str) -> str:
    """The text of a structure, with `mark` where a tensor goes."""

    class _Mark:
        def __repr__(self) -> str:
            return mark

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor) or hasattr(value, "_as_graph_element"):
            tensors.append(convert.convert_to_tensor(value))
            return _Mark()
        return value

    if nest.is_nested(item):
        return repr(nest.map_structure(leaf, item))
    found = leaf(item)
    return mark if isinstance(found, _Mark) else str(found)


def _stream_name(stream: Any) -> str:
    if stream is sys.stdout:
        return "stdout"
    if stream is sys.stderr:
        return "stderr"
    if isinstance(stream, str) and stream.startswith("file://"):
        return stream
    known = {
        "info": "log(info)",
        "warning": "log(warning)",
        "warn": "log(warning)",
        "error": "log(error)",
    }
    found = known.get(getattr(stream, "__name__", ""))
    if found is None:
        raise ValueError(
            f"Unsupported output stream, logging level, or file. {stream}. Supported streams are "
            f"sys.stdout, sys.stderr, "
            "tf.logging.info, tf.logging.warning, tf.logging.error, and file:// paths."
        )
    return found


@export("strings.format")
def string_format(
    template: str, inputs: Any, placeholder: str = "{}", summarize: int = 3, name: str | None = None
) -> Tensor:
    """The template with the printed values of `inputs` in place of the placeholders.

    Raises ValueError: not as many placeholders as inputs.
    """
    tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if template.count(placeholder) != len(tensors):
        raise ValueError(
            f"{template.count(placeholder)} placeholder(s) in template does not match {len(tensors)} "
            f"tensor(s) provided as "
            "input"
        )
    return raw.StringFormat(
        tensors, template=template, placeholder=placeholder, summarize=summarize, name=name
    )
