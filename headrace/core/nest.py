"""Nested structures: lists, tuples, named tuples, mappings and attrs classes with leaves in them.

Mappings are walked in the order of their sorted keys, whatever order they keep themselves, so that
a plain dict and an OrderedDict of the same keys match. Strings, arrays and sets are leaves. A
composite tensor (one made of several tensors) is a leaf unless `expand_composites` is set.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, MappingView, Sequence
from typing import Any

# What a type is to this module. Up to _VIEW it is a structure, from _COMPOSITE only on request.
_LEAF, _SEQUENCE, _NAMEDTUPLE, _MAPPING, _ATTRS, _VIEW, _COMPOSITE, _SPEC = range(8)
_MAX_TYPES = 4096

_kinds: dict[type, int] = {list: _SEQUENCE, tuple: _SEQUENCE, dict: _MAPPING}
_composite_types: tuple[type, ...] = ()
_spec_types: tuple[type, ...] = ()

Path = tuple[Any, ...]


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


def _kind(value: Any) -> int:
    kind = _kinds.get(value.__class__)
    return _classify(value) if kind is None else kind


def _classify(value: Any) -> int:
    cls = value.__class__
    if isinstance(value, Mapping):
        kind = _MAPPING
    elif isinstance(value, MappingView):
        kind = _VIEW
    elif hasattr(cls, "__attrs_attrs__"):
        kind = _ATTRS
    elif _is_namedtuple(value):
        kind = _NAMEDTUPLE
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        kind = _SEQUENCE
    elif isinstance(value, _composite_types):
        kind = _COMPOSITE
    elif isinstance(value, _spec_types):
        kind = _SPEC
    else:
        kind = _LEAF
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


def _top(expand_composites: bool) -> int:
    """Returns the last kind that counts as a structure."""
    return _SPEC if expand_composites else _VIEW


def _sorted_keys(mapping: Any) -> list:
    try:
        return sorted(mapping)
    except TypeError as e:
        raise TypeError(f"nest only supports dicts with sortable keys: {e}") from None


def _values(structure: Any, kind: int) -> Any:
    """Returns the children of `structure` in order."""
    if kind == _SEQUENCE or kind == _NAMEDTUPLE or kind == _VIEW:
        return structure
    if kind == _MAPPING:
        return [structure[k] for k in _sorted_keys(structure)]
    if kind == _ATTRS:
        return [getattr(structure, a.name) for a in structure.__class__.__attrs_attrs__]
    if kind == _COMPOSITE:
        return [structure._type_spec._to_components(structure)]
    return [structure._component_specs]


def _items(structure: Any, kind: int) -> list[tuple[Any, Any]]:
    """Returns (key, child) pairs in order."""
    if kind == _SEQUENCE or kind == _VIEW:
        return list(enumerate(structure))
    if kind == _NAMEDTUPLE:
        return [(f, getattr(structure, f)) for f in structure._fields]
    if kind == _MAPPING:
        return [(k, structure[k]) for k in _sorted_keys(structure)]
    if kind == _ATTRS:
        return [(a.name, getattr(structure, a.name)) for a in structure.__class__.__attrs_attrs__]
    # A composite tensor and its spec have the same key, so that they match each other.
    cls = structure.__class__ if kind == _COMPOSITE else structure.value_type
    return [(cls.__name__, _values(structure, kind)[0])]


def _rebuild(structure: Any, children: list) -> Any:
    """Returns a structure like `structure` of other children."""
    kind = _kind(structure)
    cls = structure.__class__
    if cls is list:
        return children
    if kind == _MAPPING:
        by_key = dict(zip(_sorted_keys(structure), children, strict=True))
        if cls is dict:
            return {k: by_key[k] for k in structure}
        if cls is collections.defaultdict:
            result = collections.defaultdict(structure.default_factory)
            result.update((k, by_key[k]) for k in structure)
            return result
        return cls((k, by_key[k]) for k in structure)
    if kind == _NAMEDTUPLE or kind == _ATTRS:
        return cls(*children)
    if kind == _VIEW or cls is range:
        return children
    if kind == _COMPOSITE:
        return structure._type_spec._from_components(children[0])
    if kind == _SPEC:
        return structure._from_components(children[0])
    return cls(children)


def is_nested(seq: Any) -> bool:
    """Returns whether `seq` is a structure rather than a leaf."""
    return 0 < _kind(seq) <= _VIEW


is_sequence = is_nested


def is_sequence_or_composite(seq: Any) -> bool:
    """Returns whether `seq` is a structure, a composite tensor, or the type spec of one."""
    return _kind(seq) > 0


def flatten(structure: Any, expand_composites: bool = False) -> list:
    """Returns the leaves of `structure` as a list; a leaf alone gives a list of one.

    Raises TypeError: the keys of a mapping cannot be sorted.
    """
    leaves: list = []
    _flatten_into(leaves, structure, _top(expand_composites))
    return leaves


def _flatten_into(leaves: list, structure: Any, top: int) -> None:
    kind = _kind(structure)
    if not 0 < kind <= top:
        leaves.append(structure)
        return
    for child in _values(structure, kind):
        if 0 < _kind(child) <= top:
            _flatten_into(leaves, child, top)
        else:
            leaves.append(child)


class _Mismatch(Exception):
    """Two structures differ: the class of error to raise, and how they differ."""


def _describe(value: Any) -> str:
    return f"type={type(value).__name__} str={value}"


def assert_same_structure(
    nest1: Any, nest2: Any, check_types: bool = True, expand_composites: bool = False
) -> None:
    """Raises unless both structures nest in the same way.

    check_types: also compare the types of the structures and the keys of mappings; a dict and an
    OrderedDict count as the same type, and so do two named tuples of the same name and fields.
    Raises ValueError: they differ in nesting, length or keys.  TypeError: they differ in types.
    """
    try:
        _compare(nest1, nest2, check_types, _top(expand_composites))
    except _Mismatch as mismatch:
        error, difference = mismatch.args
        shape1, shape2 = (map_structure(lambda _: _DOT, n) for n in (nest1, nest2))
        raise error(
            "The two structures don't have the same nested structure.\n\n"
            f"First structure: {_describe(nest1)}\n\nSecond structure: {_describe(nest2)}\n\n"
            f"More specifically: {difference}\n"
            f"Entire first structure:\n{shape1}\nEntire second structure:\n{shape2}"
        ) from None


class _Dot:
    """Stands for a leaf where a structure is printed."""

    def __repr__(self) -> str:
        return "."


_DOT = _Dot()


def _compare(x: Any, y: Any, check_types: bool, top: int) -> None:
    """Raises _Mismatch unless `x` and `y` nest in the same way."""
    x_kind, y_kind = _kind(x), _kind(y)
    x_nested = 0 < x_kind <= top
    if x_nested != (0 < y_kind <= top):
        nested, leaf = (x, y) if x_nested else (y, x)
        raise _Mismatch(
            ValueError,
            f'Substructure "{_describe(nested)}" is a sequence, while substructure '
            f'"{_describe(leaf)}" is not',
        )
    if not x_nested:
        return
    if check_types:
        if not _same_type(x, x_kind, y, y_kind):
            raise _Mismatch(
                TypeError,
                "The two namedtuples don't have the same sequence type. First structure "
                f"{_describe(x)} has type {type(x).__name__}, while second structure "
                f"{_describe(y)} has type {type(y).__name__}",
            )
        if x_kind == _MAPPING and x.keys() != y.keys():
            raise _Mismatch(
                ValueError,
                "The two dictionaries don't have the same set of keys. First structure has keys "
                f"{_describe(list(x.keys()))}, while second structure has keys "
                f"{_describe(list(y.keys()))}",
            )
    if x_kind == _COMPOSITE or y_kind == _COMPOSITE:
        _compare_specs(x, y)
    x_values, y_values = _values(x, x_kind), _values(y, y_kind)
    for x_child, y_child in zip(x_values, y_values, strict=False):
        _compare(x_child, y_child, check_types, top)
    if len(x_values) != len(y_values):
        raise _Mismatch(
            ValueError,
            "The two structures don't have the same number of elements. "
            f"First structure: {_describe(x)}. Second structure: {_describe(y)}",
        )


def _same_type(x: Any, x_kind: int, y: Any, y_kind: int) -> bool:
    x_type, y_type = type(x), type(y)
    if x_type is y_type or (x_kind == _MAPPING and y_kind == _MAPPING):
        return True
    if x_kind == _NAMEDTUPLE and y_kind == _NAMEDTUPLE:
        return _same_namedtuples(x, y)
    if x_kind >= _COMPOSITE and y_kind >= _COMPOSITE:
        return x_kind != y_kind  # A composite tensor and a spec; the specs are compared after.
    return isinstance(x, list) and isinstance(y, list)


def _same_namedtuples(x: Any, y: Any) -> bool:
    return x._fields == y._fields and type(x).__name__ == type(y).__name__


def _compare_specs(x: Any, y: Any) -> None:
    specs = [v._type_spec if _kind(v) == _COMPOSITE else v for v in (x, y)]
    try:
        specs[0].most_specific_compatible_type(specs[1])
    except (TypeError, ValueError, AttributeError) as e:
        raise _Mismatch(
            ValueError, f"Incompatible CompositeTensor TypeSpecs: {specs[0]} vs. {specs[1]}: {e}"
        ) from None


def pack_sequence_as(structure: Any, flat_sequence: Any, expand_composites: bool = False) -> Any:
    """Returns a structure like `structure` with the leaves of `flat_sequence`.

    Raises TypeError: `flat_sequence` is not a sequence.  ValueError: it has not as many elements
    as `structure` has leaves.
    """
    top = _top(expand_composites)
    if not 0 < _kind(flat_sequence) <= top:
        raise TypeError(f"flat_sequence must be a sequence, got {flat_sequence!r}")
    leaves = list(flat_sequence)
    if not 0 < _kind(structure) <= top:
        if len(leaves) != 1:
            raise ValueError(
                f"Structure is a scalar but len(flat_sequence) == {len(leaves)}, which is not 1"
            )
        return leaves[0]
    remaining = iter(leaves)
    try:
        packed = _pack(structure, remaining, top)
        complete = next(remaining, _DOT) is _DOT
    except StopIteration:
        complete = False
    if not complete:
        count = len(flatten(structure, expand_composites))
        raise ValueError(
            f"Could not pack sequence. Structure had {count} elements, but flat_sequence had "
            f"{len(leaves)} elements.  Structure: {structure}, flat_sequence: {flat_sequence}."
        )
    return packed


def _pack(structure: Any, leaves: Iterator, top: int) -> Any:
    children = []
    for child in _values(structure, _kind(structure)):
        nested = 0 < _kind(child) <= top
        children.append(_pack(child, leaves, top) if nested else next(leaves))
    return _rebuild(structure, children)


def map_structure(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func` called on the corresponding leaves of all.

    kwargs: `check_types` and `expand_composites`, as for `assert_same_structure`.
    Raises TypeError: `func` cannot be called, or types differ.  ValueError: no structure, other
    kwargs, or structures that differ.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, got: {func}")
    if not structure:
        raise ValueError("Must provide at least one structure")
    check_types = kwargs.pop("check_types", True)
    expand_composites = kwargs.pop("expand_composites", False)
    if kwargs:
        raise ValueError(
            "Only valid keyword arguments are `check_types` and `expand_composites`, not: "
            f"`{'`, `'.join(kwargs)}`"
        )
    first = structure[0]
    for other in structure[1:]:
        assert_same_structure(first, other, check_types, expand_composites)
    flat = [flatten(s, expand_composites) for s in structure]
    results = [func(*leaves) for leaves in zip(*flat, strict=True)]
    return pack_sequence_as(first, results, expand_composites)


def flatten_dict_items(dictionary: Mapping) -> dict:
    """Returns a flat dict of `dictionary`, whose keys and values may be structures that match.

    Raises TypeError: not a mapping.  ValueError: a key and its value differ in their number of
    leaves, or a key occurs twice.
    """
    if not isinstance(dictionary, Mapping):
        raise TypeError("input must be a dictionary")
    flat: dict = {}
    for key, value in dictionary.items():
        keys, values = (flatten(key), flatten(value)) if is_nested(key) else ([key], [value])
        if len(keys) != len(values):
            raise ValueError(
                f"Could not flatten dictionary. Key had {len(keys)} elements, but value had "
                f"{len(values)} elements. Key: {keys}, value: {values}."
            )
        for k, v in zip(keys, values, strict=True):
            if k in flat:
                raise ValueError(f"Could not flatten dictionary: key {k} is not unique.")
            flat[k] = v
    return flat


def assert_shallow_structure(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> None:
    """Raises unless `input_tree` nests at least as deep as `shallow_tree`, and like it up to there.

    check_subtrees_length: lengths must be equal; otherwise the input may be the longer.
    Raises TypeError: types differ, or a leaf where a structure is needed.  ValueError: lengths or
    keys differ.
    """
    top = _top(expand_composites)
    _compare_shallow(shallow_tree, input_tree, check_types, check_subtrees_length, top)


def _compare_shallow(
    shallow: Any, deep: Any, check_types: bool, same_length: bool, top: int
) -> None:
    kind, deep_kind = _kind(shallow), _kind(deep)
    if not 0 < kind <= top:
        return
    if not 0 < deep_kind <= top:
        raise TypeError(
            "If shallow structure is a sequence, input must also be a sequence. "
            f"Input has type: {type(deep)}."
        )
    same_type = isinstance(deep, type(shallow)) or _same_type(shallow, kind, deep, deep_kind)
    composite = kind >= _COMPOSITE or deep_kind >= _COMPOSITE
    if (check_types or composite) and not same_type:
        raise TypeError(
            "The two structures don't have the same sequence type. Input structure has type "
            f"{type(deep)}, while shallow structure has type {type(shallow)}."
        )
    if composite:
        try:
            _compare_specs(shallow, deep)
        except _Mismatch as mismatch:
            raise ValueError(mismatch.args[1]) from None
    elif same_length and len(_values(deep, deep_kind)) != len(_values(shallow, kind)):
        raise ValueError(
            "The two structures don't have the same sequence length. Input structure has length "
            f"{len(_values(deep, deep_kind))}, while shallow structure has length "
            f"{len(_values(shallow, kind))}."
        )
    elif len(_values(deep, deep_kind)) < len(_values(shallow, kind)):
        raise ValueError(
            "The input_tree has fewer elements than the shallow_tree. Input structure has length "
            f"{len(_values(deep, deep_kind))}, while shallow structure has length "
            f"{len(_values(shallow, kind))}."
        )
    if kind == _MAPPING:
        absent = set(shallow) - set(deep)
        if absent:
            raise ValueError(
                "The shallow_tree's keys are not a subset of the input_tree's keys. The "
                "shallow_tree has the following keys that are not in the input_tree: "
                f"{sorted(absent)}."
            )
        pairs = [(shallow[k], deep[k]) for k in _sorted_keys(shallow)]
    else:
        pairs = list(zip(_values(shallow, kind), _values(deep, deep_kind), strict=False))
    for shallow_child, deep_child in pairs:
        _compare_shallow(shallow_child, deep_child, check_types, same_length, top)


def _walk_up_to(shallow: Any, deep: Any, top: int, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields the path of every leaf of `shallow`, and what `deep` has there."""
    kind = _kind(shallow)
    if not 0 < kind <= top:
        yield path, deep
        return
    children = dict(_items(deep, _kind(deep)))
    for key, child in _items(shallow, kind):
        yield from _walk_up_to(child, children[key], top, (*path, key))


def flatten_with_tuple_paths_up_to(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> list[tuple[Path, Any]]:
    """Returns (path, part of `input_tree`) for every leaf of `shallow_tree`.

    Raises as `assert_shallow_structure` does.
    """
    assert_shallow_structure(
        shallow_tree, input_tree, check_types, expand_composites, check_subtrees_length
    )
    return list(_walk_up_to(shallow_tree, input_tree, _top(expand_composites)))


def flatten_up_to(
    shallow_tree: Any,
    input_tree: Any,
    check_types: bool = True,
    expand_composites: bool = False,
    check_subtrees_length: bool = True,
) -> list:
    """Returns the part of `input_tree` at every leaf of `shallow_tree`.

    Raises as `assert_shallow_structure` does.
    """
    pairs = flatten_with_tuple_paths_up_to(
        shallow_tree, input_tree, check_types, expand_composites, check_subtrees_length
    )
    return [part for _, part in pairs]


def map_structure_with_tuple_paths_up_to(
    shallow_tree: Any, func: Callable, *inputs: Any, **kwargs: Any
) -> Any:
    """Returns a structure like `shallow_tree`, of `func(path, *parts)` at each of its leaves.

    kwargs: `check_types`, `expand_composites`, `check_subtrees_length`; the others go to `func`.
    Raises ValueError: no inputs; and as `assert_shallow_structure` does.
    """
    if not inputs:
        raise ValueError("Cannot map over no sequences")
    check_types = kwargs.pop("check_types", True)
    expand_composites = kwargs.pop("expand_composites", False)
    check_subtrees_length = kwargs.pop("check_subtrees_length", True)
    flat = [
        flatten_with_tuple_paths_up_to(
            shallow_tree, i, check_types, expand_composites, check_subtrees_length
        )
        for i in inputs
    ]
    results = [
        func(entries[0][0], *[part for _, part in entries], **kwargs)
        for entries in zip(*flat, strict=True)
    ]
    return pack_sequence_as(shallow_tree, results, expand_composites)


def map_structure_up_to(shallow_tree: Any, func: Callable, *inputs: Any, **kwargs: Any) -> Any:
    """Returns a structure like `shallow_tree`, of `func(*parts)` at each of its leaves.

    kwargs and errors as for `map_structure_with_tuple_paths_up_to`.
    """

    def without_path(_: Path, *parts: Any, **rest: Any) -> Any:
        return func(*parts, **rest)

    return map_structure_with_tuple_paths_up_to(shallow_tree, without_path, *inputs, **kwargs)


def map_structure_with_tuple_paths(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func(path, *leaves)`; a path is a tuple of keys."""
    return map_structure_with_tuple_paths_up_to(structure[0], func, *structure, **kwargs)


def map_structure_with_paths(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """Returns a structure like the first, of `func(path, *leaves)`; a path is text, as "a/0/b"."""

    def with_text(path: Path, *leaves: Any, **rest: Any) -> Any:
        return func("/".join(map(str, path)), *leaves, **rest)

    return map_structure_with_tuple_paths_up_to(structure[0], with_text, *structure, **kwargs)


def yield_flat_paths(nest: Any, expand_composites: bool = False) -> Iterator[Path]:
    """Yields the path of every leaf, a tuple of indices, field names and keys."""
    for path, _ in _walk_up_to(nest, nest, _top(expand_composites)):
        yield path


def flatten_with_tuple_paths(
    structure: Any, expand_composites: bool = False
) -> list[tuple[Path, Any]]:
    """Returns (path, leaf) for every leaf."""
    return list(_walk_up_to(structure, structure, _top(expand_composites)))


def flatten_with_joined_string_paths(
    structure: Any, separator: str = "/", expand_composites: bool = False
) -> list[tuple[str, Any]]:
    """Returns (path, leaf) for every leaf, the path as text."""
    pairs = flatten_with_tuple_paths(structure, expand_composites)
    return [(separator.join(map(str, path)), leaf) for path, leaf in pairs]


def get_traverse_shallow_structure(
    traverse_fn: Callable, structure: Any, expand_composites: bool = False
) -> Any:
    """Returns a structure of bools that says down to where `traverse_fn` goes into `structure`.

    traverse_fn: takes a part; gives a bool, or a structure of bools for the children of the part.
    Raises TypeError: it gives anything else.
    """
    top = _top(expand_composites)
    answer = traverse_fn(structure)
    kind = _kind(structure)
    if not 0 < kind <= top:
        if not isinstance(answer, bool):
            raise TypeError(
                f"traverse_fn returned structure: {answer} for non-structure: {structure}"
            )
        return answer
    children = _values(structure, kind)
    if isinstance(answer, bool):
        if not answer:
            return False
        answers: Any = [True] * len(children)
    elif not 0 < _kind(answer) <= top:
        raise TypeError(f"traverse_fn returned a non-bool scalar: {answer} for input: {structure}")
    else:
        assert_shallow_structure(answer, structure, expand_composites=expand_composites)
        answers = list(_values(answer, _kind(answer)))
        if not all(isinstance(a, bool) for a in answers):
            raise TypeError(
                "traverse_fn didn't return a depth=1 structure of bools.  "
                f"saw: {answer}  for structure: {structure}"
            )
    return _rebuild(
        structure,
        [
            get_traverse_shallow_structure(traverse_fn, child, expand_composites) if go else False
            for go, child in zip(answers, children, strict=True)
        ],
    )
