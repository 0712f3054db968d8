"""`raw.MatMul(a=..., b=...)`: adds one node of any registered op type, with its signature checked.

Inputs may be given by position or by name, attrs by name; attrs that follow from the inputs are inferred. The result is
the operation (no outputs), a tensor, a list (one variadic output), or a named tuple of outputs.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.core import dtypes, site
from headrace.core.dtypes import DType
from headrace.graph import attr_value, default
from headrace.graph.convert import convert_to_tensor
from headrace.graph.graph import Graph
from headrace.graph.op_def import REGISTRY, ArgSpec, OpDef, Signature, lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

if TYPE_CHECKING:
    from typing import Any  # not while running: `raw.Any` is the op

_functions: dict[str, Callable[..., Any]] = {}
_result_types: dict[str, Any] = {}


def __getattr__(name: str) -> Callable[..., Any]:
    """The function that adds nodes of op type `name`."""
    function = _functions.get(name)
    if function is None:
        if name.startswith("__") or name not in REGISTRY:
            raise AttributeError(f"no op type {name!r}")
        function = _functions[name] = _make(lookup(name))
        globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted(REGISTRY)


def _make(definition: OpDef) -> Callable[..., Any]:
    def add_node(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
        if args:
            parameters = definition.signature.parameters
            if len(args) > len(parameters):
                raise TypeError(
                    f"{definition.name} takes {len(parameters)} arguments, got {len(args)}"
                )
            kwargs.update(zip(parameters, args, strict=False))
        return result_of(build(definition, kwargs, name))

    add_node.__name__ = add_node.__qualname__ = definition.name
    add_node.__doc__ = f"{definition.name}({definition.arguments}; {definition.attr_text})"
    return add_node


def _graph_of(definition: OpDef, values: Sequence[Any]) -> Graph:
    """The graph of the inputs. Raises ValueError: they are of several graphs, or in a loop or branch that is finished."""
    current = default.get_default_graph()
    if current.building_function:
        # A function's body takes tensors of the graphs around it as captured inputs.
        return current
    first: Tensor | None = None
    for value in values:
        for tensor in value if value.__class__ in (list, tuple) else (value,):
            if tensor.__class__ is not Tensor:
                convert = getattr(tensor, "_as_graph_element", None)
                tensor = convert() if convert is not None else None
                if tensor is None or not hasattr(tensor, "graph"):
                    continue
            if first is None:
                first = tensor
            elif tensor.graph is not first.graph:
                raise ValueError(
                    f"{tensor!r} must be from the same graph as "
                    f"{first!r}.{tensor.op._site_line()}{first.op._site_line()}"
                )
    if first is None:
        return current
    if first.graph.building_function:
        from headrace.graph.func_graph import Misplaced, misplaced

        raise Misplaced(misplaced(first, current, definition.name))
    return first.graph


def build(definition: OpDef, given: dict[str, Any], name: str | None) -> Operation:
    """Adds a node of `definition` from inputs and attrs by name.

    Raises TypeError: a missing or unknown argument, a wrong type. ValueError: a value that is not allowed,
    shapes that do
    not fit, tensors of another graph.
    """
    signature = definition.signature
    inputs = signature.inputs
    values = []
    for argument in inputs:
        if argument.name not in given:
            raise TypeError(f"No argument for input {argument.name} of {definition.name} op")
        values.append(given[argument.name])
    graph = _graph_of(definition, values)
    scopes = graph._scopes
    name = definition.name if name is None else name
    # A name that ends in "/" is a scope entered before: the node takes its name.
    scope = name[:-1] if name and name[-1] == "/" else graph._enter_name(name)
    if not scope:
        scope = graph.unique_name(definition.name)
    attrs: dict[str, Any] = {}
    tensors: list[Tensor] = []
    capture = graph.building_function
    if values:
        old_name, scopes.name = scopes.name, scope
        on_default = default.get_default_graph() is graph
        if not on_default:
            manager = default.graph_as_default(graph)
            manager.__enter__()
        try:
            for argument, value in zip(inputs, values, strict=True):
                if argument.is_list:
                    _add_list(definition, signature, argument, value, attrs, tensors)
                else:
                    _add_one(definition, signature, argument, value, attrs, tensors)
        finally:
            scopes.name = old_name
            if not on_default:
                manager.__exit__(None, None, None)
    if capture:
        tensors = [graph.capture(t) if t.graph is not graph else t for t in tensors]  # type: ignore[attr-defined]
    _fill_attrs(definition, signature, given, attrs)
    types = output_types(signature, attrs)
    references = [t._op for a, t in zip(inputs, tensors, strict=False) if a.is_ref]
    if not references:
        return graph.add_operation(definition, tensors, attrs, types, scope)
    with contextlib.ExitStack() as blocks:
        # What takes a reference runs where the variable is.
        for op in dict.fromkeys(references):
            blocks.enter_context(graph.colocate_with(op))
        return graph.add_operation(definition, tensors, attrs, types, scope)


def _origin(signature: Signature, attr: str, upto: ArgSpec) -> str:
    """The first argument before `upto` that decided `attr`, for messages."""
    for argument in signature.inputs:
        if argument is upto:
            break
        if attr in (argument.type_attr, argument.number_attr, argument.type_list_attr):
            return argument.name
    return "Default in OpDef"


def _add_one(
    definition: OpDef,
    signature: Signature,
    argument: ArgSpec,
    value: Any,
    attrs: dict[str, Any],
    tensors: list[Tensor],
) -> None:
    type_attr = argument.type_attr
    wanted = argument.dtype if type_attr is None else attrs.get(type_attr)
    if value.__class__ is Tensor:
        tensor = value
        if (
            wanted is not None
            and tensor._dtype is not wanted
            and tensor._dtype.base_dtype is not wanted
        ):
            raise _type_mismatch(definition, signature, argument, tensor._dtype.name, wanted, value)
    else:
        preferred = None
        if wanted is None and type_attr is not None:
            spec = signature.attrs[type_attr]
            preferred = spec.default if spec.has_default else None
        try:
            tensor = convert_to_tensor(value, wanted, argument.name, preferred, argument.is_ref)
        except TypeError as error:
            if wanted is None:
                raise
            raise TypeError(
                f"Expected {wanted.name} passed to parameter '{argument.name}' of op "
                f"'{definition.name}', got {value!r} "
                f"of type '{type(value).__name__}' instead. Error: {error}"
            ) from None
        except ValueError as error:
            try:
                observed = convert_to_tensor(value)._dtype.name
            except ValueError:
                raise ValueError(
                    f"Tried to convert '{argument.name}' to a tensor and failed. Error: {error}"
                ) from None
            raise _type_mismatch(definition, signature, argument, observed, wanted, value) from None
    base = tensor._dtype.base_dtype
    if type_attr is not None:
        if type_attr not in attrs:
            attr_value.check_allowed(
                signature.attrs[type_attr], base, definition.name, argument.name
            )
            attrs[type_attr] = base
        elif attrs[type_attr] is not base:
            raise _type_mismatch(
                definition, signature, argument, base.name, attrs[type_attr], value
            )
    if argument.is_ref and not tensor._dtype.is_ref_dtype:
        raise TypeError(
            f"'{definition.name}' Op requires that input '{argument.name}' be a mutable tensor (e.g.: a tf.Variable)"
        )
    tensors.append(tensor)


def _type_mismatch(
    definition: OpDef,
    signature: Signature,
    argument: ArgSpec,
    observed: str,
    wanted: DType | None,
    value: Any,
) -> TypeError:
    prefix = (
        f"Input '{argument.name}' of '{definition.name}' Op has type {observed} that does not match"
    )
    text = repr(value)
    got = f"Got {text if len(text) < 80 else type(value).__name__}; tf.cast converts.\n  defined at {site.capture()}"
    if argument.type_attr is None or wanted is None:
        return TypeError(
            f"{prefix} expected type of {wanted.name if wanted else 'a tensor'}. {got}"
        )
    origin = _origin(signature, argument.type_attr, argument)
    return TypeError(f"{prefix} type {wanted.name} of argument '{origin}'. {got}")


def _add_list(
    definition: OpDef,
    signature: Signature,
    argument: ArgSpec,
    values: Any,
    attrs: dict[str, Any],
    tensors: list[Tensor],
) -> None:
    if not isinstance(values, (list, tuple)):
        raise TypeError(
            f"Expected list for '{argument.name}' argument to '{definition.name}' Op, not {values}."
        )
    type_attr, number_attr, list_attr = (
        argument.type_attr,
        argument.number_attr,
        argument.type_list_attr,
    )
    wanted: DType | None = argument.dtype
    preferred = None
    if wanted is None and number_attr is not None and type_attr is not None:
        wanted = attrs.get(type_attr)
        if wanted is None:
            wanted = next((v._dtype.base_dtype for v in values if isinstance(v, Tensor)), None)
        if wanted is None:
            wanted = next(
                (
                    dtypes.as_dtype(v.dtype).base_dtype
                    for v in values
                    if hasattr(v, "_as_graph_element")
                ),
                None,
            )
        spec = signature.attrs[type_attr]
        preferred = spec.default if wanted is None and spec.has_default else None
    try:
        converted = [
            v
            if v.__class__ is Tensor and (wanted is None or v._dtype.base_dtype is wanted)
            else convert_to_tensor(v, wanted, f"{argument.name}_{i}", preferred, argument.is_ref)
            for i, v in enumerate(values)
        ]
        kinds = [t._dtype.base_dtype for t in converted]
        if number_attr is not None and len(set(kinds)) > 1:
            raise TypeError
    except (TypeError, ValueError):
        raise _list_mismatch(definition, argument, values, wanted, type_attr in attrs) from None
    if number_attr is not None:
        if number_attr in attrs:
            if len(converted) != attrs[number_attr]:
                raise ValueError(
                    f"List argument '{argument.name}' to '{definition.name}' Op with length "
                    f"{len(converted)} must match "
                    f"length {attrs[number_attr]} of argument '{_origin(signature, number_attr, argument)}'."
                )
        else:
            minimum = signature.attrs[number_attr].minimum
            if minimum is not None and len(converted) < minimum:
                raise ValueError(
                    f"List argument '{argument.name}' to '{definition.name}' Op with length "
                    f"{len(converted)} shorter than "
                    f"minimum length {minimum}."
                )
            attrs[number_attr] = len(converted)
        if type_attr is not None and type_attr not in attrs:
            if not kinds:
                raise TypeError(
                    f"Don't know how to infer type variable from empty input list passed to input '{argument.name}' of "
                    f"'{definition.name}' Op."
                )
            attr_value.check_allowed(
                signature.attrs[type_attr], kinds[0], definition.name, argument.name
            )
            attrs[type_attr] = kinds[0]
    elif list_attr is not None:
        if list_attr in attrs:
            if attrs[list_attr] != kinds:
                raise TypeError(
                    f"Input '{argument.name}' of '{definition.name}' Op has type list of "
                    f"{', '.join(k.name for k in kinds)} that does not match type list "
                    f"{', '.join(k.name for k in attrs[list_attr])} of argument "
                    f"'{_origin(signature, list_attr, argument)}'."
                )
        else:
            spec = signature.attrs[list_attr]
            if spec.minimum is not None and len(kinds) < spec.minimum:
                raise ValueError(
                    f"List argument '{argument.name}' to '{definition.name}' Op with length {len(kinds)} shorter than "
                    f"minimum length {spec.minimum}."
                )
            for kind in kinds:
                attr_value.check_allowed(spec, kind, definition.name, argument.name)
            attrs[list_attr] = kinds
    if argument.is_ref and not all(t._dtype.is_ref_dtype for t in converted):
        raise TypeError(
            f"'{definition.name}' Op requires that input '{argument.name}' be a mutable tensor (e.g.: a tf.Variable)"
        )
    tensors.extend(converted)


def _list_mismatch(
    definition: OpDef, argument: ArgSpec, values: Any, wanted: DType | None, from_earlier: bool
) -> TypeError:
    observed = []
    for value in values:
        try:
            observed.append(convert_to_tensor(value)._dtype.base_dtype.name)
        except (TypeError, ValueError):
            observed.append("<NOT CONVERTIBLE TO TENSOR>")
    prefix = f"Tensors in list passed to '{argument.name}' of '{definition.name}' Op have types [{', '.join(observed)}]"
    if argument.number_attr is None:
        return TypeError(f"{prefix} that are invalid. Tensors: {values}")
    if argument.dtype is not None:
        return TypeError(f"{prefix} that do not match expected type {argument.dtype.name}.")
    if from_earlier and wanted is not None:
        return TypeError(
            f"{prefix} that do not match type {wanted.name} inferred from earlier arguments."
        )
    return TypeError(f"{prefix} that don't all match.")


def _fill_attrs(
    definition: OpDef, signature: Signature, given: dict[str, Any], attrs: dict[str, Any]
) -> None:
    """Completes `attrs` with those given and the defaults. Raises TypeError: unknown, missing, or inferred ones."""
    used = len(signature.inputs)
    for name, spec in signature.attrs.items():
        if name in given:
            used += 1
            if name in attrs:
                raise TypeError(
                    f"Should not specify value for inferred attr '{name}' of {definition.name} op."
                )
            value = given[name]
            if value is None and spec.has_default:
                attrs[name] = default_of(spec)
            else:
                attrs[name] = attr_value.check(spec, value, definition.name)
        elif name not in attrs:
            if not spec.has_default:
                raise TypeError(f"No argument for attr {name} of {definition.name} op")
            attrs[name] = default_of(spec)
    if used < len(given):
        unknown = sorted(set(given) - set(signature.parameters))
        raise TypeError(
            f"{definition.name} op got unexpected arguments: {', '.join(unknown)}; it has "
            f"{', '.join(signature.parameters)}"
        )


def default_of(spec: Any) -> Any:
    """The default of an attr, as a node of its own may hold it."""
    value = spec.default
    if spec.kind == "shape":
        return attr_value.as_shape(value)
    return list(value) if value.__class__ is list else value


def output_types(signature: Signature, attrs: dict[str, Any]) -> list[DType]:
    """The types of the outputs that follow from the attrs."""
    types: list[DType] = []
    for argument in signature.outputs:
        if argument.type_list_attr is not None:
            types += attrs[argument.type_list_attr]
            continue
        kind: Any = argument.dtype if argument.type_attr is None else attrs[argument.type_attr]
        if argument.is_ref:
            kind = kind._as_ref
        if argument.number_attr is not None:
            types += [kind] * attrs[argument.number_attr]
        else:
            types.append(kind)
    return types


def result_of(op: Operation) -> Any:
    """What a function of the API returns for a node: see the module's docstring."""
    outputs = op._outputs
    arguments = op._definition.signature.outputs
    if not arguments:
        return op
    if len(arguments) == 1:
        return list(outputs) if arguments[0].is_list else outputs[0]
    result_type = _result_types.get(op.type)
    if result_type is None:
        names = [a.name for a in arguments]
        result_type = _result_types[op.type] = collections.namedtuple(op.type, names, rename=True)  # type: ignore[misc]
    if any(a.is_list for a in arguments):
        return result_type._make(_grouped_outputs(op, list(outputs)))
    return result_type._make(outputs)


def _grouped_outputs(op: Operation, outputs: list[Tensor]) -> list[Any]:
    grouped: list[Any] = []
    at = 0
    for argument in op._definition.signature.outputs:
        if not argument.is_list:
            grouped.append(outputs[at])
            at += 1
            continue
        count = (
            op._attrs[argument.number_attr]
            if argument.number_attr
            else len(op._attrs[str(argument.type_list_attr)])
        )
        grouped.append(outputs[at : at + count])
        at += count
    return grouped


def build_from_parts(
    graph: Graph,
    definition: OpDef,
    inputs: list[Tensor],
    attrs: dict[str, Any],
    name: str | None,
    expected_types: Sequence[Any] | None = None,
) -> Operation:
    """Adds a node whose inputs are flat and whose attrs are in the system's own form (importers, `create_op`).

    Attrs that the signature knows and that are missing take their default or follow from the inputs.
    """
    signature = definition.signature
    attrs = dict(attrs)
    at = 0
    for argument in signature.inputs:
        at = _infer_from_flat(definition, argument, inputs, at, attrs)
    if at != len(inputs):
        raise ValueError(
            f"NodeDef for {definition.name} op {name!r} has {len(inputs)} inputs, its signature takes {at}."
        )
    for attr, spec in signature.attrs.items():
        if attr not in attrs:
            if not spec.has_default:
                raise ValueError(f"NodeDef missing attr '{attr}' from {definition!r}")
            attrs[attr] = default_of(spec)
        elif not attr.startswith("_"):
            attrs[attr] = (
                attr_value.check(spec, attrs[attr], definition.name)
                if attrs[attr] is not None
                else None
            )
    name = definition.name if name is None else name
    if name and name[-1] == "/":
        name = name[:-1]
    else:
        name = graph.unique_name(name)
    types = output_types(signature, attrs)
    if expected_types is not None and [dtypes.as_dtype(t) for t in expected_types] != types:
        raise TypeError(
            f"{definition.name} op {name!r} has outputs of types {[t.name for t in types]}, not {list(expected_types)}."
        )
    return graph.add_operation(definition, inputs, attrs, types, name)


def _infer_from_flat(
    definition: OpDef, argument: ArgSpec, inputs: list[Tensor], at: int, attrs: dict[str, Any]
) -> int:
    """Takes the tensors of one argument from the flat inputs, checks their types; returns where the next one begins."""

    def need(tensor: Tensor, wanted: DType) -> None:
        if tensor._dtype.base_dtype is not wanted.base_dtype:
            raise ValueError(
                f"{definition.name} op: input '{argument.name}' expected {wanted.name}, got {tensor._dtype.name} from "
                f"{tensor.name!r}."
            )

    if argument.type_list_attr is not None:
        kinds = attrs.get(argument.type_list_attr)
        if kinds is None:
            rest = len(inputs) - at
            kinds = attrs[argument.type_list_attr] = [
                t._dtype.base_dtype for t in inputs[at : at + rest]
            ]
        taken = inputs[at : at + len(kinds)]
        if len(taken) < len(kinds):
            raise ValueError(
                f"{definition.name} op: '{argument.name}' needs {len(kinds)} inputs, got {len(taken)}."
            )
        for tensor, kind in zip(taken, kinds, strict=True):
            need(tensor, kind)
        return at + len(kinds)
    count = 1
    if argument.number_attr is not None:
        count = attrs.get(argument.number_attr, -1)
        if count < 0:
            count = attrs[argument.number_attr] = len(inputs) - at
    taken = inputs[at : at + count]
    if len(taken) < count:
        raise ValueError(
            f"{definition.name} op: '{argument.name}' needs {count} inputs, got {len(taken)}."
        )
    kind = argument.dtype
    if argument.type_attr is not None:
        kind = attrs.get(argument.type_attr)
        if kind is None and taken:
            kind = attrs[argument.type_attr] = taken[0]._dtype.base_dtype
    for tensor in taken:
        need(tensor, kind)  # type: ignore[arg-type]
        if argument.is_ref and not tensor._dtype.is_ref_dtype:
            raise ValueError(
                f"{definition.name} op: input '{argument.name}' needs a reference, got {tensor.name!r}."
            )
    return at + count
