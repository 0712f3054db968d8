"""Expressions that TensorFlow 1.15 and Headrace must answer alike, and how answers are written down.

Read by the tests and, under TensorFlow's own Python, by `tests/oracle/core.py`; so nothing is
imported here but the standard library and NumPy.
"""

import collections

import numpy as np

Point = collections.namedtuple("Point", "x y")
Pair = collections.namedtuple("Pair", "x y")


def show(value):
    """Writes an answer as JSON, in the same way whatever the versions of NumPy and protobuf."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if hasattr(value, "SerializeToString"):
        return {"proto": value.SerializeToString().hex()}
    if isinstance(value, np.ndarray):
        return {
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            "values": show(value.tolist()),
        }
    if isinstance(value, np.generic):
        return {"dtype": str(value.dtype), "value": repr(float(value))}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return {type(value).__name__: [show(v) for v in value]}
    return repr(value)


def evaluate(expression, names):
    """Returns the answer to an expression: what it gives, or which error it raises."""
    try:
        return show(eval(expression, dict(names)))
    except Exception as e:
        return {"error": type(e).__name__, "message": str(e)}


# `dt` stands for as_dtype, `S` for TensorShape, `D` for Dimension, `proto` for make_tensor_proto and
# `nd` for make_ndarray.
AS_DTYPE = [
    "float", "bool", "object", "int", "complex", "str", "bytes", "None", "0", "1", "101", "120",
    "3.0", "'float32'", "'float'", "'double'", "'half'", "'half_ref'", "'double_ref'", "'string'",
    "'variant_ref'", "'int'", "'f4'", "'<f4'", "'S'", "'uint8'", "'qint8'", "b'float32'",
    "np.float16", "np.int64", "np.longlong", "np.ulonglong", "np.intc", "np.complex64",
    "np.bool_", "np.object_", "np.str_", "np.bytes_", "np.generic", "np.dtype('S3')",
    "np.dtype('U2')", "np.dtype('>f4')", "np.dtype([('qint8', np.int8)])", "np.dtype('M8[s]')",
]  # fmt: skip

DTYPE_ATTRIBUTES = [
    "name", "as_datatype_enum", "base_dtype", "real_dtype", "is_bool", "is_integer", "is_floating",
    "is_complex", "is_quantized", "is_unsigned", "is_numpy_compatible", "size", "min", "max",
    "limits", "_as_ref", "_is_ref_dtype",
]  # fmt: skip

_SHAPES = ["None", "[]", "[2]", "[2, None]", "[None, 3]", "[2, 3]", "[2, 4]", "[None]", "[1, 2, 3]"]

SHAPES = [
    *[f"{f}(S({s}))" for f in ("repr", "str") for s in _SHAPES],
    *[
        f"S({s}).{call}"
        for s in _SHAPES
        for call in (
            "ndims", "rank", "dims", "num_elements()", "as_list()", "as_proto()", "is_fully_defined()",
            "assert_is_fully_defined()", "with_rank(2)", "with_rank_at_least(2)",
            "with_rank_at_most(1)", "assert_has_rank(1)", "__len__()", "__bool__()", "__iter__().__next__()",
            "__getitem__(0)", "__getitem__(-1)", "__getitem__(slice(1, None))",
            "__getitem__(slice(None, -1))", "__getitem__(slice(0, 2))", "__getitem__(slice(0, 2, 2))",
        )
    ],
    *[
        f"{call}(S({x}), S({y}))"
        for x in _SHAPES
        for y in _SHAPES
        for call in (
            "S.merge_with", "S.concatenate", "S.is_compatible_with", "S.assert_is_compatible_with",
            "S.most_specific_compatible_shape", "S.assert_same_rank", "S.__eq__", "S.__ne__",
        )
    ],
    "S([2]) + [3]", "[3] + S([2])", "S([2]) == [2]", "S([2]) == (D(2),)", "S([2]) == 'a'",
    "S([2]) != 'a'", "S([2]) == 2", "S([None]) == S([None])", "hash(S([2]))",
    "S(3)", "S('3')", "S(b'3')", "S(['3'])", "S(['a'])", "S([1.0])", "S([1.5])", "S(-1)", "S([-1])",
    "S([D(2), D(None)])", "S(S([2, None]))", "S(S([2, None]).as_proto())", "S(S(None).as_proto())",
    "S(np.array([2, 3]))", "S([True])", "S([dt('float32')])", "S([[2]])", "S(object())",
    "tf.TensorShape([2, 3])[5]", "list(S([2, None]))", "S(range(3))", "D(2) in S([1, 2])",
]  # fmt: skip

_DIMS = ["D(None)", "D(3)", "D(7)", "3", "None", "1.5", "'a'", "'3'"]

DIMENSIONS = [
    *[f"{f}({d})" for f in ("repr", "str", "int") for d in ("D(None)", "D(3)")],
    *[
        f"{x} {op} {y}"
        for x in _DIMS[:3]
        for y in _DIMS
        for op in ("+", "-", "*", "//", "%", "<", "<=", ">", ">=", "==", "!=", "/")
    ],
    *[f"{x} {op} D(3)" for x in ("7", "None", "'a'") for op in ("+", "-", "*", "//", "%", "<", "/")],
    *[f"D({x}).{f}(D({y}))" for x in ("3", "None") for y in ("3", "7", "None")
      for f in ("merge_with", "is_compatible_with", "assert_is_compatible_with")],
    "D(-1)", "D(1.5)", "D('x')", "D(D(2))", "D(np.int64(4))", "D(dt('int32'))", "hash(D(2))",
    "list(range(D(3)))", "[0, 1, 2][D(1)]", "D(2).value", "bool(D(0))", "D([1])",
]  # fmt: skip

VALUES = [
    "1", "1.5", "True", "'a'", "b'a'", "u'\\u00e9'", "1j", "None", "2**31 - 1", "2**31", "-2**31 - 1",
    "2**63", "2**64", "-2**63", "1e300", "float('nan')", "[]", "[[]]", "[[], []]", "()", "(1, 2)",
    "[1, 2.5]", "[1, True]", "[True, 1]", "[1, 2j]", "[2**40]", "[1, 2**40]", "[[1.0, 2.0], [3.0, 4.0]]",
    "['a\\0', 'b']", "[['a', 'b'], ['c', b'd']]", "['a', 1]", "[1, 'a']", "[1, None]", "{'a': 1}", "{1}",
    "[[1], [1, 2]]", "[[1, 2], 3]", "[1, [2]]", "[['a'], ['b', 'c']]", "[D(2), 3]",
    "[np.float32(1), np.float32(2)]", "[np.float64(1)]", "[np.int64(3), 4]", "[np.bool_(True)]",
    "np.float64(1)", "np.int64(1)", "np.bool_(True)", "np.array([1, 2])", "np.array([1.5])",
    "np.array(['a', 'bc'])", "np.array([b'a'])", "np.array([b'x', u'y'], dtype=object)",
    "np.array([1, None])", "np.array([[True, False]])", "np.array([1.5, 2], dtype=np.float16)",
    "np.arange(4, dtype=np.uint16)", "np.arange(4, dtype=np.uint32)", "np.arange(4, dtype=np.uint64)",
    "np.arange(4, dtype=np.int8)", "np.array([1 + 2j], dtype=np.complex64)", "np.zeros([0, 2])",
    "np.arange(6).reshape([2, 3]).T", "bytearray(b'ab')", "np.datetime64('2001-01-01')",
]  # fmt: skip

TYPED_VALUES = [
    ("1.5", "int32"), ("1", "float32"), ("True", "float32"), ("True", "int32"), ("1", "bool"),
    ("True", "bool"), ("None", "float32"), ("[1, None]", "float32"), ("'a'", "float32"),
    ("1", "string"), ("['a', 1]", "string"), ("['a', 'b']", "string"), ("-1", "uint8"),
    ("300", "uint8"), ("[300, -1]", "uint8"), ("2**40", "int32"), ("[2**40]", "int32"),
    ("2**64", "int64"), ("2**63", "uint64"), ("3", "uint64"), ("[3, 4]", "uint32"), ("3", "uint16"),
    ("np.array([1.5])", "int32"), ("np.array([300])", "uint8"), ("np.array([1, 2])", "string"),
    ("np.array(['1.5'])", "float32"), ("np.array([1.5])", "complex64"), ("np.bool_(True)", "bool"),
    ("np.float32(2)", "float64"), ("1j", "complex64"), ("1j", "float32"), ("[1, 2]", "complex128"),
    ("[1, 2j]", "complex64"), ("D(3)", "int32"), ("[D(3), 2]", "int32"), ("D(None)", "int32"),
    ("1.5", "bfloat16"), ("[1.5, 2.5]", "bfloat16"), ("[1.5, 2.5]", "half"), ("1", "half"),
    ("3", "float32_ref"), ("[1.0, 2]", "int64"), ("[2**60 + 1]", "int64"), ("1e300", "float32"),
    ("1e5", "half"), ("b'x'", "bool"), ("[2**24 + 1]", "float32"), ("[True, False]", "bool"),
    ("(1,)", "qint8"), ("[(1,), (2,)]", "qint8"), ("[(1,), (200,)]", "quint8"), ("1", "qint8"),
    ("[1, 2]", "quint8"), ("np.array([1, 2])", "qint32"), ("[(1,), (-2,)]", "qint16"),
    ("[(1,), (2,)]", "quint16"), ("[]", "int32"), ("[[], []]", "float64"), ("[]", "string"),
]  # fmt: skip

_SHAPED = [
    ("1.0", "[2, 3]"), ("[1, 2]", "[2, 2]"), ("[1, 2, 3]", "[2]"), ("[1, 2]", "[2, 1]"), ("1.0", "[0]"),
    ("1", "[0, 3]"), ("[]", "[2]"), ("'a'", "[2]"), ("[[1, 2]]", "[2]"), ("5", "[]"), ("[1]", "[]"),
    ("[1, 2]", "[]"), ("1", "S([2])"), ("1", "3"), ("1", "S([None, 2])"), ("[True]", "[2]"),
    ("np.float16(1.5)", "[3]"), ("1", "np.array([2, 2])"), ("np.zeros([2, 2])", "[3]"), ("1j", "[2]"),
]  # fmt: skip

PROTOS = [
    *[f"proto({v})" for v in VALUES],
    *[f"proto({v}, dtype='{d}')" for v, d in TYPED_VALUES],
    *[
        f"proto({v}, shape={s}{flag})"
        for v, s in _SHAPED
        for flag in ("", ", verify_shape=True", ", allow_broadcast=True")
    ],
    "proto(1, shape=[2], verify_shape=True, allow_broadcast=True)",
    "proto(proto(1))",
    "proto(1.5, dtype=np.float64)",
    "proto(1, 'float32', [2])",
]

ARRAYS = [
    *[f"nd(proto({v}))" for v in VALUES],
    *[f"nd(proto({v}, dtype='{d}'))" for v, d in TYPED_VALUES if d not in ("uint64", "bfloat16")],
    *[f"nd(proto({v}, shape={s}))" for v, s in _SHAPED],
]

NESTS = [
    *[f"nest.flatten({n})" for n in (
        "1", "None", "'ab'", "[]", "[1, (2, [3])]", "{'b': 1, 'a': [2, (3, None)]}", "range(3)",
        "{'b': 1}.values()", "{'b': 1}.keys()", "Point(1, [2])", "b'ab'", "collections.deque([1])",
        "collections.OrderedDict([('z', 1), ('a', 2)])", "np.array([1, 2])", "S([2])",
    )],
    *[f"nest.is_nested({n})" for n in ("1", "'a'", "[]", "()", "{}", "{1}", "Point(1, 2)", "range(2)")],
    *[f"nest.assert_same_structure({a})" for a in (
        "[1, 2], [1]", "[1, [2]], [1, 2]", "1, [1]", "((1, 2), 3, 4), ('a', 'b')", "(1, 2), [1, 2]", "Point(1, 2), Pair(1, 2)",
        "Point(1, 2), (1, 2)", "(1, 2), [1, 2], check_types=False", "{'a': 1}, {'b': 1}",
        "{'a': 1}, {'a': 1, 'b': 1}", "{'a': 1}, [1]", "{'a': 1}, {'b': 1}, check_types=False",
        "{'a': 1}, collections.OrderedDict(a=1)", "[[1], {'a': (2,)}], [['x'], {'a': ('y',)}]",
        "[[1], {'a': (2,)}], [['x'], {'a': ['y']}]", "Point(1, 2), Point(1, [2])",
    )],
    *[f"nest.pack_sequence_as({a})" for a in (
        "[1, 2], [1]", "[1, 2], [1, 2, 3]", "1, [5]", "{'b': 1, 'a': [2, 3]}, [7, 8, 9]", "[], []",
        "Point(1, (2,)), [7, 8]", "[[1, [2]], 3], (4, 5, 6)", "[[], [[]], 1], [4]",
    )],
    *[f"nest.map_structure({a})" for a in (
        "lambda x: x + 1, {'b': 1, 'a': (2,)}", "lambda x: x + 1, collections.OrderedDict([('z', 1), ('a', 2)])",
        "lambda x: x + 1, collections.defaultdict(int, {'z': 1, 'a': 2})", "lambda x: x, range(3)",
        "lambda x: x, {'b': 1}.values()", "lambda x, y: x + y, [1, (2,)], [3, (4,)]",
        "lambda x, y: x + y, [1], (2,)", "lambda x, y: x + y, [1], (2,), check_types=False",
        "3, [1]", "lambda x: x", "lambda x: x, [1], foo=1", "lambda x: x, collections.deque([1])",
        "lambda x: -x, Point(1, [2])", "lambda x: None, [1]", "lambda x: [x, x], [1, 2]",
    )],
]  # fmt: skip

SHALLOW = [
    *[f"nest.{f}({a})" for f in ("assert_shallow_structure", "flatten_up_to") for a in (
        "[1], [[2]]", "1, [2, 3]", "[1, 2], [[3], {'a': 4}]", "[1, 2], [3]", "[1], (2,)", "[[1]], [2]",
        "[1], (2,), check_types=False", "{'a': 1}, {'a': [2], 'b': 3}", "{'a': 1}, {'b': 2}",
        "{'a': 1, 'b': [2]}, {'a': [1], 'b': [{'c': 3}]}", "Point(1, 2), Point([3], 4)",
        "Point(1, 2), Pair(3, 4)", "[1], [2, 3], check_subtrees_length=False",
        "[1, 2], [3], check_subtrees_length=False",
        "{'a': 1}, {'a': [2], 'b': 3}, check_subtrees_length=False",
    )],
    "nest.map_structure_up_to([1, [2]], lambda x, y: (x, y), [[3], [4]], [5, [[6]]])",
    "nest.map_structure_up_to([1], lambda x: x)",
    "nest.map_structure_up_to([1, 2], lambda x: x, [1])",
    "nest.map_structure_with_paths(lambda p, x: (p, x), {'b': [1, 2], 'a': Point(3, 4)})",
    "nest.map_structure_with_paths(lambda p, x, y: (p, x + y), [1, [2]], [3, [4]])",
    "nest.map_structure_with_paths(lambda p, x, y: (p, x + y), [1], [3, 4])",
    "nest.map_structure_with_tuple_paths(lambda p, x: (p, x), {'b': [1, 2], 'a': 3})",
    "nest.flatten_with_joined_string_paths({'b': [1, 2], 'a': Point(3, (4,))})",
    "nest.flatten_with_joined_string_paths([1, [2]], separator='.')",
    "nest.flatten_with_joined_string_paths(7)",
    "nest.flatten_with_tuple_paths({'b': [1, 2], 'a': 3})",
    "list(nest.yield_flat_paths({'b': [1, 2], 'a': Point(3, (4,))}))",
    "list(nest.yield_flat_paths(3))",
    "sorted(nest.flatten_dict_items({(1, (2, 3)): ['a', ['b', 'c']], 4: 'd'}).items())",
    "nest.flatten_dict_items({(1, 2): ['a']})", "nest.flatten_dict_items({(1, 2): 'ab', 1: 2})",
    "nest.flatten_dict_items([1])", "nest.flatten_dict_items({(1, (2,)): [3, [4]], 2: 5})",
    "nest.get_traverse_shallow_structure(lambda s: isinstance(s, tuple), ((1, [2]), [3]))",
    "nest.get_traverse_shallow_structure(lambda s: isinstance(s, list), [(1,), [3, [4]]])",
    "nest.get_traverse_shallow_structure(lambda s: [True, False] if s == [1, [2]] else True, [1, [2]])",
    "nest.get_traverse_shallow_structure(lambda s: 3, [1])",
    "nest.get_traverse_shallow_structure(lambda s: [[True]], [1])",
]  # fmt: skip

_SPECS = [
    "None", "''", "'/cpu:0'", "'/GPU:2'", "'/gpu:*'", "'/gpu'", "'cpu:1'", "'/device:TPU:0'",
    "'/device:cpu:0'", "'/device:GPU:*'", "'/device:GPU'", "'/job:worker/replica:0/task:17/device:GPU:3'",
    "'/job:ps'", "'/task:1'", "'/job:a/job:b'", "'/cpu:0/gpu:1'", "'/foo:1'", "'/job:a:b'",
    "'/device:XLA_CPU:0'", "'/task:x'", "'/cpu:x'", "'/job:localhost/replica:0/task:0/cpu:0'", "'/'",
]  # fmt: skip

DEVICES = [
    *[f"tf.DeviceSpec.from_string({s}).to_string()" for s in _SPECS],
    *[f"tf.DeviceSpec().parse_from_string({s}).to_string()" for s in _SPECS],
    *[f"device.canonical_name({s})" for s in _SPECS],
    *[
        f"device.merge_device({x})(node({y})).to_string()"
        for x in _SPECS[1:13:2]
        for y in ("''", "'/gpu:0'", "'/job:ps/task:1'", "'/task:2/cpu:*'")
    ],
    "tf.DeviceSpec('ps', 0, '1', 'cpu', '2').to_string()",
    "tf.DeviceSpec(job='ps', device_type='gpu').to_string()",
    "tf.DeviceSpec(device_type='GPU', device_index=1).replace(task=3, device_index=None).to_string()",
    "tf.DeviceSpec(device_type='GPU').replace(foo=3)",
    "tf.DeviceSpec(job='a', task=1).make_merged_spec(tf.DeviceSpec(task=2, device_type='CPU')).to_string()",
    "tf.DeviceSpec.from_string('/job:a') == tf.DeviceSpec(job='a')",
    "tf.DeviceSpec.from_string('/job:a') != tf.DeviceSpec(job='b')",
    "hash(tf.DeviceSpec(job='a')) == hash(tf.DeviceSpec.from_string('/job:a'))",
    "tf.DeviceSpec.from_string('/job:a/task:3/gpu:1').task",
    "device.merge_device('').is_null_merge", "device.merge_device('/cpu:0').is_null_merge",
    "device.merge_device(tf.DeviceSpec(job='x'))(node('/cpu:1')).to_string()",
]  # fmt: skip

GROUPS = {
    "shapes": SHAPES,
    "dimensions": DIMENSIONS,
    "protos": PROTOS,
    "arrays": ARRAYS,
    "nests": NESTS,
    "shallow": SHALLOW,
    "devices": DEVICES,
    "as_dtype": [f"dt({x})" for x in AS_DTYPE],
    "dtypes": [
        f"dt({e}).{a}" for e in (*range(1, 24), 101, 107, 108, 111) for a in DTYPE_ATTRIBUTES
    ],
}
