"""Values and protos besides TensorFlow's answers: round trips, memory, damaged protos."""

import warnings

import numpy as np
import pytest
from tensorboard.compat.proto import tensor_pb2, tensor_shape_pb2

from headrace.core import dtypes, tensor_proto
from headrace.core.tensor_proto import (
    array_to_proto,
    convert_to_numpy,
    make_ndarray,
    make_tensor_proto,
    proto_to_array,
)


def sample(dtype, shape):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    if dtype is dtypes.string:
        return convert_to_numpy(values.astype(str))
    return values.astype(np.bool_ if dtype.is_bool else dtype.np_dtype)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)])
@pytest.mark.parametrize("dtype", sorted(dtypes.TF_VALUE_DTYPES, key=lambda d: d.name), ids=str)
def test_round_trip(dtype, shape):
    array = sample(dtype, shape)
    proto = make_tensor_proto(array)
    back = make_ndarray(tensor_pb2.TensorProto.FromString(proto.SerializeToString()))
    assert back.dtype == array.dtype == dtype.np_dtype and back.shape == shape
    assert back.tolist() == array.tolist()
    assert back.flags.writeable
    assert convert_to_numpy(array) is array or dtype is dtypes.string
    # The same values, one by one and the last repeated.
    if array.size > 1 and dtype is not dtypes.string:
        short = array_to_proto(array.ravel()[:2], shape)
        assert not short.tensor_content
        wanted = array.ravel()[[0, 1, 1, 1, 1, 1]].reshape(shape)
        assert make_ndarray(short).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "value, dtype, wanted",
    [
        (1.5, None, np.float32(1.5)), (1.5, dtypes.float64, np.float64(1.5)),
        (1e300, None, np.float32(np.inf)), (3, None, np.int32(3)), (3, dtypes.float32, np.float32(3)),
        (1 << 40, None, np.int64(1 << 40)), (-1, dtypes.uint64, np.uint64((1 << 64) - 1)),
        (3, dtypes.bfloat16, np.array(3, dtypes.bfloat16.np_dtype)), (True, None, np.bool_(True)),
        (1e6, dtypes.float16, np.float16(np.inf)), (3, dtypes.int64, np.int64(3)),
        (0.1, dtypes.float32, np.float32(0.1)), (3, dtypes.float32_ref, np.float32(3)),
        ([1 << 60, 1.5], dtypes.float64, np.array([1 << 60, 1.5])),
        (memoryview(b"ab"), None, np.array([97, 98], np.uint8)),
        (np.array([1.5], ">f4"), None, np.array([1.5], np.float32)),
        # TF differs: lists of arrays, ranges and NumPy's bools in lists are refused there.
        ([np.zeros(2), np.ones(2)], None, np.array([[0, 0], [1, 1]], np.float32)),
        (range(3), None, np.arange(3, dtype=np.int32)),
        ([np.bool_(True)], dtypes.bool, np.array([True])),
    ],
)  # fmt: skip
def test_converted_value(value, dtype, wanted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = convert_to_numpy(value, dtype)
        filled = convert_to_numpy(value, dtype, wanted.shape)
    for got in (array, filled):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "value, wanted",
    [("é", "é".encode()), (b"a\0", b"a\0"), (np.str_("x"), b"x"), (np.bytes_(b"y"), b"y")],
)
def test_strings_are_bytes_objects(value, wanted):
    array = convert_to_numpy(value)
    assert array.dtype == object and array.shape == () and array.item() == wanted
    both = convert_to_numpy([[value], ["z"]], dtypes.string)
    assert both.tolist() == [[wanted], [b"z"]]


def test_one_long_string_does_not_pad_the_others():
    array = convert_to_numpy(["x" * 1_000_000, *["y"] * 10_000])
    assert array.shape == (10_001,) and array[-1] == b"y"


def test_a_filled_constant_takes_no_memory():
    array = convert_to_numpy(0.5, dtypes.float32, (1 << 20, 1 << 15))
    assert array.shape == (1 << 20, 1 << 15) and array[5, 5] == 0.5
    proto = make_tensor_proto(array)
    assert len(proto.SerializeToString()) < 50
    assert proto_to_array(proto).shape == array.shape


class GraphTensor:
    def consumers(self):
        return []

    def __iter__(self):
        raise TypeError("not iterable")


def test_tensors_of_a_graph_are_not_values():
    for value in (GraphTensor(), [GraphTensor(), 1.0], [[GraphTensor()]]):
        with pytest.raises(TypeError, match="List of Tensors when single Tensor expected"):
            convert_to_numpy(value)
        with pytest.raises(TypeError, match=r"Expected float32, got <.*> of type 'GraphTensor'"):
            convert_to_numpy(value, dtypes.float32)


class EagerTensor(GraphTensor):
    def numpy(self):
        return np.array([1, 2], np.int16)

    def __array__(self, dtype=None, copy=None):
        return self.numpy()


def test_what_has_an_array_is_one():
    assert convert_to_numpy(EagerTensor()).dtype == np.int16
    assert convert_to_numpy(EagerTensor(), dtypes.float32).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [dtypes.resource, dtypes.variant], ids=str)
def test_opaque_types_have_no_values(dtype):
    with pytest.raises(TypeError, match="Incompatible types"):
        convert_to_numpy(1, dtype)
    with pytest.raises(TypeError, match="Unsupported tensor type"):
        make_ndarray(tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum))


def proto_of(dtype, dims, unknown_rank=False, **fields):
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[{"size": d} for d in dims], unknown_rank=unknown_rank
    )
    return tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **fields)


@pytest.mark.parametrize(
    "proto",
    [
        proto_of(dtypes.float32, [2], tensor_content=b"1234"),
        proto_of(dtypes.float32, [1], float_val=[1.0, 2.0]),
        proto_of(dtypes.float32, [-1], float_val=[1.0]),
        proto_of(dtypes.float32, [], unknown_rank=True),
        proto_of(dtypes.float32, [1 << 40, 1 << 40], float_val=[1.0, 2.0]),
        proto_of(dtypes.complex64, [2], scomplex_val=[1.0, 2.0, 3.0]),
        proto_of(dtypes.string, [3], tensor_content=b"\x01a"),
        proto_of(dtypes.string, [2], tensor_content=b"\x01\x05abc"),
        proto_of(dtypes.string, [1], tensor_content=b"\xff\xff\xff"),
        proto_of(dtypes.string, [1 << 45], tensor_content=b"\x01a"),
    ],
)
def test_damaged_protos_are_refused_before_memory_is_taken(proto):
    with pytest.raises(ValueError, match="TensorProto of"):
        make_ndarray(proto)


def test_strings_as_content():
    content = bytes([1, 0, 0x80, 0x01]) + b"a" + b"b" * 128
    got = make_ndarray(proto_of(dtypes.string, [3], tensor_content=content))
    assert got.tolist() == [b"a", b"", b"b" * 128]


def test_empty_protos_are_zeros():
    assert make_ndarray(proto_of(dtypes.int32, [2])).tolist() == [0, 0]
    assert make_ndarray(proto_of(dtypes.string, [2])).tolist() == [b"", b""]
    assert make_ndarray(proto_of(dtypes.bfloat16, [1])).tolist() == [0.0]


def test_protos_have_a_largest_size(monkeypatch):
    monkeypatch.setattr(tensor_proto, "_MAX_CONTENT_BYTES", 16)
    assert make_tensor_proto(np.zeros(3, np.float32)).tensor_content
    with pytest.raises(ValueError, match="larger than 2GB"):
        make_tensor_proto(np.zeros(4, np.float32))
