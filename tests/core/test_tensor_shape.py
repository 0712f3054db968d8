"""TensorShape besides TensorFlow's answers: trusted construction, pickling, the 2.x behaviour."""

import pickle

import pytest

from headrace.core import tensor_shape
from headrace.core.tensor_shape import Dimension, TensorShape


@pytest.fixture
def v2():
    tensor_shape.enable_v2_tensorshape()
    yield
    tensor_shape.disable_v2_tensorshape()


@pytest.mark.parametrize("dims", [None, (), (2,), (2, None, 0)])
def test_tuple_in_tuple_out(dims):
    shape = TensorShape.of(dims)
    assert shape.tuple == dims
    assert tensor_shape.as_dims(shape) == tensor_shape.as_dims(dims) == dims
    assert pickle.loads(pickle.dumps(shape)).tuple == dims
    assert TensorShape(shape.as_proto()).tuple == dims


def test_indexing_gives_dimensions():
    shape = TensorShape([2, None])
    assert [type(d) for d in shape] == [Dimension, Dimension]
    assert [d.value for d in (shape[0], shape[1])] == [2, None]
    assert pickle.loads(pickle.dumps(shape[0])).value == 2


def test_indexing_gives_numbers_in_v2(v2):
    shape = TensorShape([2, None])
    assert list(shape) == [2, None] and shape[0] == 2 and shape[1] is None
    assert TensorShape(None)[3] is None
    assert repr(shape) == "TensorShape([2, None])" and str(shape) == "(2, None)"
    assert repr(TensorShape(None)) == "TensorShape(None)"


def test_a_shape_with_unknown_lengths_equals_only_itself():
    shape = TensorShape([2, None])
    assert shape == shape and not shape != shape
    assert TensorShape(shape) == shape
    assert not shape == TensorShape([2, None]) and shape != TensorShape([2, None])


@pytest.mark.parametrize("of", [Dimension(2), 2, None, Dimension(None)])
def test_dimension_value(of):
    assert tensor_shape.dimension_value(of) == getattr(of, "value", of)


def test_makers():
    assert tensor_shape.unknown_shape().tuple is None
    assert tensor_shape.unknown_shape(2).tuple == (None, None)
    assert tensor_shape.unknown_shape(ndims=1).tuple == (None,)
    assert tensor_shape.scalar().tuple == ()
    assert tensor_shape.vector(3).tuple == (3,)
    assert tensor_shape.matrix(3, None).tuple == (3, None)
    assert tensor_shape.dimension_at_index(TensorShape(None), 1).value is None
    assert tensor_shape.dimension_at_index(TensorShape([4, 5]), 1).value == 5
    with pytest.raises(TypeError, match="Unknown argument"):
        tensor_shape.unknown_shape(foo=1)
