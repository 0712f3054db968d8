"""TensorSpec, BoundedTensorSpec, IndexedSlicesSpec and what all type specs have in common."""

import pickle

import numpy as np
import pytest

import headrace as tf
from headrace.core import nest
from headrace.graph.type_spec import BoundedTensorSpec, type_spec_from_value


def test_tensor_specs_compare_by_shape_type_and_name():
    spec = tf.TensorSpec([None, 3], tf.float32, "x")
    assert spec == tf.TensorSpec([None, 3], "float32", "x") != tf.TensorSpec([None, 3])
    assert hash(spec) == hash(tf.TensorSpec([None, 3], name="other")) and spec != 3
    assert repr(spec) == "TensorSpec(shape=(?, 3), dtype=tf.float32, name='x')"
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec.is_compatible_with(tf.zeros([2, 3])) and spec.is_compatible_with(
        tf.TensorSpec(None)
    )
    assert not spec.is_compatible_with(tf.zeros([2, 4])) and not spec.is_compatible_with(3)
    assert tf.TensorSpec.from_spec(spec, "y").name == "y"
    named = tf.placeholder(tf.int8, [2], name="p")
    assert tf.TensorSpec.from_tensor(named) == tf.TensorSpec([2], tf.int8, "p")
    with pytest.raises(ValueError, match=r"should be a tf\.Tensor"):
        tf.TensorSpec.from_tensor(np.zeros(2))
    merged = spec.most_specific_compatible_type(tf.TensorSpec([4, 5], name="x"))
    assert merged == tf.TensorSpec([None, None], name="x")
    with pytest.raises(ValueError, match="Types are not compatible"):
        spec.most_specific_compatible_type(tf.TensorSpec([None, 3], tf.int32))


def test_batches_and_components_of_tensors():
    spec = tf.TensorSpec([3], tf.int32)
    assert spec._batch(None)._unbatch() == spec and spec._batch(2).shape.as_list() == [2, 3]
    with pytest.raises(ValueError, match="only supported for rank >= 1"):
        tf.TensorSpec([])._unbatch()
    assert spec._to_components([1, 2, 3]).dtype == tf.int32
    with pytest.raises(ValueError, match="is not convertible to a tensor with dtype"):
        spec._to_components([1, 2])
    (tensor,) = spec._to_tensor_list(tf.placeholder(tf.int32))
    assert spec._from_tensor_list([tensor]).shape.as_list() == [3]
    with pytest.raises(ValueError, match="wrong number of tensors"):
        spec._from_tensor_list([])


def test_bounds():
    spec = BoundedTensorSpec([2, 3], tf.int32, 0, [1, 2, 3])
    assert spec.maximum.tolist() == [1, 2, 3] and spec.minimum.shape == ()
    assert (
        spec
        == BoundedTensorSpec((2, 3), tf.int32, [0], [1, 2, 3])
        != tf.TensorSpec([2, 3], tf.int32)
    )
    assert BoundedTensorSpec.from_spec(tf.TensorSpec([1], tf.uint8)).maximum == 255
    with pytest.raises(ValueError, match="read-only"):
        spec.maximum[0] = 5
    with pytest.raises(ValueError, match="must be provided"):
        BoundedTensorSpec([2], tf.int32, None, 1)
    with pytest.raises(ValueError, match="minimum is not compatible with shape"):
        BoundedTensorSpec([2], tf.int32, [1, 2, 3], 1)


def test_indexed_slices_have_components():
    slices = tf.IndexedSlices(tf.zeros([2, 4]), tf.constant([0, 5]), tf.constant([9, 4]))
    spec = type_spec_from_value(slices)
    assert spec == tf.IndexedSlicesSpec([9, 4], tf.float32, tf.int32, tf.int32, [2])
    flat = nest.flatten({"a": slices}, expand_composites=True)
    assert flat == [slices.values, slices.indices, slices.dense_shape]
    again = nest.pack_sequence_as({"a": slices}, flat, expand_composites=True)["a"]
    assert isinstance(again, tf.IndexedSlices) and again.indices is slices.indices
    wider = spec.most_specific_compatible_type(
        tf.IndexedSlicesSpec([8, 4], tf.float32, tf.int32, tf.int32, [2])
    )
    assert wider._shape.as_list() == [None, 4] and wider.is_compatible_with(slices)
    with pytest.raises(ValueError, match="No TypeSpec is compatible with both"):
        spec.most_specific_compatible_type(tf.TensorSpec(None))


def test_values_without_a_spec_are_converted_or_refused():
    assert type_spec_from_value(3.0) == tf.TensorSpec([], tf.float32)
    pair = [tf.zeros([2]), tf.zeros([3])]
    assert type_spec_from_value(pair) == tf.TensorSpec([2, None])
    with pytest.raises(TypeError, match="Could not build a TypeSpec"):
        type_spec_from_value(object())
