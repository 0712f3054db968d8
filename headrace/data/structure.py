"""The structure of elements: tuples, named tuples, dictionaries and attrs classes with components in them.

A list is not a structure here but a tensor, unlike in `tf.nest`. Dictionaries are walked in the order of their sorted keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headrace.api.framework import name_scope
from headrace.api.tensor_array import TensorArray
from headrace.api.tensor_array_spec import TensorArraySpec
from headrace.core import dtypes
from headrace.core.tensor_shape import as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.sparse_tensor import SparseTensor, SparseTensorSpec, SparseTensorValue
from headrace.graph.tensor import Tensor
from headrace.graph.type_spec import TensorSpec, TypeSpec, type_spec_from_value


def is_nested(value: Any) -> bool:
    """Whether `value` is a structure and not a component."""
    if isinstance(value, (tuple, Mapping)):
        return not isinstance(value, SparseTensorValue)
    return hasattr(type(value), "__attrs_attrs__")


def _children(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    if isinstance(value, tuple):
        return list(value)
    return [getattr(value, a.name) for a in type(value).__attrs_attrs__]


def _like(value: Any, children: list[Any]) -> Any:
    """A structure of the type of `value` with other children."""
    if isinstance(value, Mapping):
        by_key = dict(zip(sorted(value), children, strict=True))
        return type(value)((key, by_key[key]) for key in value)  # type: ignore[call-arg]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return type(value)(children)
    return type(value)(*children)


def flatten(value: Any) -> list[Any]:
    """The components in order."""
    if not is_nested(value):
        return [value]
    return [leaf for child in _children(value) for leaf in flatten(child)]


def pack_sequence_as(structure: Any, flat: Any) -> Any:
    """`flat` in the structure of `structure`. Raises ValueError: another number of components."""
    flat = list(flat)
    count = len(flatten(structure))
    if count != len(flat):
        raise ValueError(
            f"Could not pack sequence. Structure had {count} elements, but flat_sequence had {len(flat)} elements. "
            f"Structure: {structure}, flat_sequence: {flat}."
        )
    return _pack(structure, iter(flat))


def _pack(structure: Any, flat: Iterator[Any]) -> Any:
    if not is_nested(structure):
        return next(flat)
    return _like(structure, [_pack(child, flat) for child in _children(structure)])


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """Applies a function to the components, side by side, of structures of the same form."""
    for other in structures[1:]:
        assert_same_structure(structures[0], other)
    columns = zip(*map(flatten, structures), strict=True)
    return pack_sequence_as(structures[0], [function(*column) for column in columns])


def assert_same_structure(first: Any, second: Any) -> None:
    """Raises ValueError, TypeError: the structures differ."""
    if is_nested(first) != is_nested(second):
        raise ValueError(
            "The two structures don't have the same nested structure.\n\n"
            f"First structure: {first}\n\nSecond structure: {second}"
        )
    if not is_nested(first):
        return
    dictionaries = isinstance(first, Mapping) and isinstance(second, Mapping)
    if type(first) is not type(second) and not dictionaries:
        raise TypeError(
            f"The two structures don't have the same sequence type. First structure has type {type(first)}, while "
            f"second structure has type {type(second)}."
        )
    a, b = _children(first), _children(second)
    if len(a) != len(b) or (dictionaries and set(first) != set(second)):
        raise ValueError(
            "The two structures don't have the same number of elements, or not the same keys.\n\n"
            f"First structure: {first}\n\nSecond structure: {second}"
        )
    for x, y in zip(a, b, strict=True):
        assert_same_structure(x, y)


def flatten_up_to(shallow: Any, value: Any) -> list[Any]:
    """The parts of `value` at the components of `shallow`. Raises TypeError, ValueError: the structures differ."""
    if not is_nested(shallow):
        return [value]
    if not is_nested(value):
        raise TypeError(
            "If shallow structure is a sequence, input must also be a sequence. Input has type: "
            f"{type(value)}."
        )
    if not isinstance(value, type(shallow)):
        raise TypeError(
            f"The two structures don't have the same sequence type. Input structure has type {type(value)}, while "
            f"shallow structure has type {type(shallow)}."
        )
    a, b = _children(shallow), _children(value)
    if len(a) != len(b):
        raise ValueError(
            "The two structures don't have the same sequence length. Input structure has length "
            f"{len(b)}, while shallow structure has length {len(a)}."
        )
    if isinstance(shallow, Mapping) and set(shallow) != set(value):
        raise ValueError("The two structures don't have the same keys.")
    return [leaf for x, y in zip(a, b, strict=True) for leaf in flatten_up_to(x, y)]


# ---- descriptions


def spec_of(element: Any) -> Any:
    """The description of an element: a structure of TypeSpecs. Raises TypeError: a component has none."""
    if is_nested(element):
        return _like(element, [spec_of(child) for child in _children(element)])
    return type_spec_from_value(element)


def normalize(element: Any) -> Any:
    """An element whose components are tensors, sparse tensors or datasets."""
    found = []
    with name_scope("normalize_element"):
        for i, component in enumerate(flatten(element)):
            if isinstance(component, (SparseTensor, SparseTensorValue)):
                found.append(SparseTensor.from_value(component))
            elif isinstance(component, TensorArray) or (
                not isinstance(component, Tensor)
                and isinstance(getattr(component, "_type_spec", None), TypeSpec)
            ):
                found.append(component)
            elif isinstance(component, list) and any(
                hasattr(part, "_variant_tensor") for part in component
            ):
                found.append(component)  # of datasets
            else:
                found.append(convert_to_tensor(component, name=f"component_{i}"))
    return pack_sequence_as(element, found)


def flat_specs(spec: Any) -> list[Any]:
    """The TensorSpecs of the tensors that make up an element."""
    return [t for component in flatten(spec) for t in component._flat_tensor_specs]


def flat_types(spec: Any) -> list[Any]:
    """The types of the tensors that make up an element."""
    return [t.dtype for t in flat_specs(spec)]


def flat_shapes(spec: Any) -> list[Any]:
    """The shapes of the tensors that make up an element."""
    return [t.shape for t in flat_specs(spec)]


def attrs_of(spec: Any) -> dict[str, Any]:
    """The attrs of a dataset's node that say what its elements are."""
    return {"output_types": flat_types(spec), "output_shapes": flat_shapes(spec)}


def to_tensors(spec: Any, element: Any) -> list[Any]:
    """The tensors that make up an element."""
    assert_same_structure(spec, element)
    pairs = zip(flatten(spec), flatten(element), strict=True)
    return [t for s, component in pairs for t in s._to_tensor_list(component)]


def to_batched_tensors(spec: Any, element: Any) -> list[Any]:
    """As `to_tensors`, of an element that is a batch."""
    pairs = zip(flatten(spec), flatten(element), strict=True)
    return [t for s, component in pairs for t in s._to_batched_tensor_list(component)]


def from_tensors(spec: Any, tensors: Any) -> Any:
    """The element that tensors make up."""
    tensors, at, found = list(tensors), 0, []
    for component in flatten(spec):
        count = len(component._flat_tensor_specs)
        found.append(component._from_compatible_tensor_list(tensors[at : at + count]))
        at += count
    return pack_sequence_as(spec, found)


def from_legacy(output_types: Any, output_shapes: Any, output_classes: Any) -> Any:
    """The description for types, shapes and classes, three structures of one form. Raises TypeError: an unknown class."""
    types, shapes = flatten(output_types), flatten_up_to(output_types, output_shapes)
    classes = flatten_up_to(output_types, output_classes)
    found = []
    for dtype, shape, kind in zip(types, shapes, classes, strict=True):
        if isinstance(kind, TypeSpec):
            found.append(kind)
        elif isinstance(kind, type) and issubclass(kind, SparseTensor):
            found.append(SparseTensorSpec(shape, dtype))
        elif isinstance(kind, type) and issubclass(kind, TensorArray):
            dynamic_size, infer_shape, *dims = shape.as_list()
            found.append(TensorArraySpec(dims, dtype, bool(dynamic_size), bool(infer_shape)))
        elif isinstance(kind, type) and issubclass(kind, Tensor):
            found.append(TensorSpec(shape, dtype))
        else:
            raise TypeError(
                f"Could not build a structure for output class {kind} and output type {dtype}"
            )
    return pack_sequence_as(output_types, found)


def given_structure(output_types: Any, output_shapes: Any, output_classes: Any) -> Any:
    """As `from_legacy`; shapes that are left out are unknown, classes are Tensor."""
    output_types = map_structure(
        lambda t: t if isinstance(t, TypeSpec) else dtypes.as_dtype(t), output_types
    )
    if output_shapes is None:
        output_shapes = map_structure(
            lambda t: t if isinstance(t, TypeSpec) else as_shape(None), output_types
        )
    else:
        shapes = flatten_up_to(output_types, output_shapes)
        output_shapes = pack_sequence_as(
            output_types, [s if isinstance(s, TypeSpec) else as_shape(s) for s in shapes]
        )
    if output_classes is None:
        output_classes = map_structure(
            lambda t: t if isinstance(t, TypeSpec) else Tensor, output_types
        )
    return from_legacy(output_types, output_shapes, output_classes)


def legacy_types(spec: Any) -> Any:
    """The types of the components, in the structure."""
    return map_structure(lambda s: s._to_legacy_output_types(), spec)


def legacy_shapes(spec: Any) -> Any:
    """The shapes of the components, in the structure."""
    return map_structure(lambda s: s._to_legacy_output_shapes(), spec)


def legacy_classes(spec: Any) -> Any:
    """The classes of the components, in the structure."""
    return map_structure(lambda s: s._to_legacy_output_classes(), spec)
