"""What counts as a nested structure, and how one is taken apart and put together again (see `nest`)."""

from __future__ import annotations

import collections
from collections.abc import Mapping, MappingView, Sequence
from typing import Any

# The kinds of types. Up to VIEW it is a structure, from COMPOSITE on only on request.
LEAF, SEQUENCE, NAMEDTUPLE, MAPPING, ATTRS, VIEW, COMPOSITE, SPEC = range(8)
_MAX_TYPES = 4096

_kinds: dict[type, int] = {list: SEQUENCE, tuple: SEQUENCE, dict: MAPPING}
_composite_types: tuple[type, ...] = ()
_spec_types: tuple[type, ...] = ()


def register_composite_tensor(cls: type) -> None:
    """Lets `expand_composites` open instances of `cls`.

    cls: has `_type_spec`, a type spec (see `register_type_spec`) that also has
    `_to_components(value)`.
    """
    global _composite_types
    _composite_types = (*_composite_types, cls)
    _kinds.clear()


def register_type_spec(cls: type) -> None:
    """Lets `expand_composites` open instances of `cls`.

    cls: has `_component_specs`, `_from_components(components)`, `value_type` and
    `most_specific_compatible_type(other)`.
    """
    global _spec_types
    _spec_types = (*_spec_types, cls)
    _kinds.clear()


def kind_of(value: Any) -> int:
    """The kind of the type of `value`."""
    kind = _kinds.get(value.__class__)
    return _classify(value) if kind is None else kind


def _classify(value: Any) -> int:
    cls = value.__class__
    if isinstance(value, Mapping):
        kind = MAPPING
    elif isinstance(value, MappingView):
        kind = VIEW
    elif hasattr(cls, "__attrs_attrs__"):
        kind = ATTRS
    elif _is_namedtuple(value):
        kind = NAMEDTUPLE
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        kind = SEQUENCE
    elif isinstance(value, _composite_types):
        kind = COMPOSITE
    elif isinstance(value, _spec_types):
        kind = SPEC
    else:
        kind = LEAF
    if len(_kinds) >= _MAX_TYPES:  # Programs that keep making classes must not fill the memory.
        _kinds.clear()
    _kinds[cls] = kind
    return kind


def _is_namedtuple(value: Any) -> bool:
    fields = getattr(value, "_fields", None)
    return (
        isinstance(value, tuple)
        and isinstance(fields, Sequence)
        and all(isinstance(f, str) for f in fields)
    )


def last_kind(expand_composites: bool) -> int:
    """Returns the last kind that counts as a structure."""
    return SPEC if expand_composites else VIEW


def sorted_keys(mapping: Any) -> list:
    """The keys in the order in which they are walked. Raises TypeError: they cannot be sorted."""
    try:
        return sorted(mapping)
    except TypeError as e:
        raise TypeError(f"nest only supports dicts with sortable keys: {e}") from None


def children_of(structure: Any, kind: int) -> Any:
    """Returns the children of `structure` in order."""
    if kind == SEQUENCE or kind == NAMEDTUPLE or kind == VIEW:
        return structure
    if kind == MAPPING:
        return [structure[k] for k in sorted_keys(structure)]
    if kind == ATTRS:
        return [getattr(structure, a.name) for a in structure.__class__.__attrs_attrs__]
    if kind == COMPOSITE:
        return [structure._type_spec._to_components(structure)]
    return [structure._component_specs]


def items_of(structure: Any, kind: int) -> list[tuple[Any, Any]]:
    """Returns (key, child) pairs in order."""
    if kind == SEQUENCE or kind == VIEW:
        return list(enumerate(structure))
    if kind == NAMEDTUPLE:
        return [(f, getattr(structure, f)) for f in structure._fields]
    if kind == MAPPING:
        return [(k, structure[k]) for k in sorted_keys(structure)]
    if kind == ATTRS:
        return [(a.name, getattr(structure, a.name)) for a in structure.__class__.__attrs_attrs__]
    # A composite tensor and its spec have the same key, so that they match each other.
    cls = structure.__class__ if kind == COMPOSITE else structure.value_type
    return [(cls.__name__, children_of(structure, kind)[0])]


def rebuild(structure: Any, children: list) -> Any:
    """Returns a structure like `structure` of other children."""
    kind = kind_of(structure)
    cls = structure.__class__
    if cls is list:
        return children
    if kind == MAPPING:
        by_key = dict(zip(sorted_keys(structure), children, strict=True))
        if cls is dict:
            return {k: by_key[k] for k in structure}
        if cls is collections.defaultdict:
            result = collections.defaultdict(structure.default_factory)
            result.update((k, by_key[k]) for k in structure)
            return result
        return cls((k, by_key[k]) for k in structure)
    if kind == NAMEDTUPLE or kind == ATTRS:
        return cls(*children)
    if kind == VIEW or cls is range:
        return children
    if kind == COMPOSITE:
        return structure._type_spec._from_components(children[0])
    if kind == SPEC:
        return structure._from_components(children[0])
    return cls(children)
