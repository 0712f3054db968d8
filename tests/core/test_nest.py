"""Nested structures that TensorFlow's answers leave out: attrs classes and composite tensors."""

from types import SimpleNamespace

import pytest

from headrace.core import nest, structures


class Attrs:
    __attrs_attrs__ = (SimpleNamespace(name="b"), SimpleNamespace(name="a"))

    def __init__(self, b, a):
        self.b, self.a = b, a


class Spec:
    def __init__(self, size):
        self.size = size

    value_type = property(lambda self: Composite)
    _component_specs = property(lambda self: ["spec"] * self.size)

    def _to_components(self, value):
        return list(value.parts)

    def _from_components(self, components):
        return Composite(*components)

    def most_specific_compatible_type(self, other):
        if self.size != other.size:
            raise ValueError("sizes differ")


class Composite:
    def __init__(self, *parts):
        self.parts = parts

    _type_spec = property(lambda self: Spec(len(self.parts)))


structures.register_composite_tensor(Composite)
structures.register_type_spec(Spec)


def test_attrs_classes_keep_the_order_of_their_fields():
    value = Attrs([1, 2], 3)
    assert nest.is_nested(value) and nest.flatten(value) == [1, 2, 3]
    doubled = nest.map_structure(lambda x: 2 * x, value)
    assert type(doubled) is Attrs and (doubled.b, doubled.a) == ([2, 4], 6)
    assert list(nest.yield_flat_paths(value)) == [("b", 0), ("b", 1), ("a",)]


def test_composites_are_leaves_unless_expanded():
    value = [Composite(1, 2), 3]
    assert not nest.is_nested(value[0]) and nest.is_sequence_or_composite(value[0])
    assert nest.flatten(value) == value
    assert nest.flatten(value, expand_composites=True) == [1, 2, 3]
    negated = nest.map_structure(lambda x: -x, value, expand_composites=True)
    assert negated[0].parts == (-1, -2) and negated[1] == -3
    packed = nest.pack_sequence_as([Spec(2), 0], [7, 8, 9], expand_composites=True)
    assert packed[0].parts == (7, 8) and packed[1] == 9
    paths = list(nest.yield_flat_paths(value, expand_composites=True))
    assert paths == [(0, "Composite", 0), (0, "Composite", 1), (1,)]


def test_a_composite_matches_its_spec():
    nest.assert_same_structure([Composite(1, 2)], [Spec(2)], expand_composites=True)
    nest.assert_shallow_structure(Spec(2), Composite(1, 2), expand_composites=True)
    assert nest.flatten_up_to(Spec(2), Composite(1, 2), expand_composites=True) == [1, 2]
    for check in (nest.assert_same_structure, nest.assert_shallow_structure):
        with pytest.raises(ValueError, match="Incompatible CompositeTensor TypeSpecs"):
            check(Spec(3), Composite(1, 2), expand_composites=True)
    with pytest.raises(TypeError, match="sequence type"):
        nest.assert_same_structure([Composite(1)], [[1]], expand_composites=True)


def test_keys_that_cannot_be_sorted():
    with pytest.raises(TypeError, match="sortable keys"):
        nest.flatten({1: 2, "a": 3})
    with pytest.raises(TypeError, match="must be a sequence"):
        nest.pack_sequence_as([1], 3)


def test_deep_and_many_types():
    deep = leaf = object()
    for _ in range(200):
        deep = [deep]
    assert nest.flatten(deep) == [leaf]
    for i in range(5000):
        assert not nest.is_nested(type(f"T{i}", (), {})())
    assert nest.is_nested([]) and len(structures._kinds) <= structures._MAX_TYPES
