"""The variables of the stored checkpoints: `build(tf)` makes them, in Headrace and in TensorFlow 1.15 (Python 3.7).

Values are patterns, so that the tests can make them again without TensorFlow.
"""

import numpy as np

TYPES = (
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 bool complex64 complex128".split()
)


def pattern(dtype, shape, seed=0):
    """An array whose elements are a pattern of small numbers, fractions where the type has them."""
    count = int(np.prod(shape, dtype=np.int64))
    numbers = (np.arange(count) * 37 + 11 * seed + 5) % 101
    if dtype == "bool":
        return (numbers % 2 == 1).reshape(shape)
    if dtype.startswith("complex"):
        return (numbers / 8 - 3j * numbers).astype(dtype).reshape(shape)
    if dtype.startswith("float"):
        numbers = numbers / 8 - 3
    return numbers.astype(dtype).reshape(shape)


def build(tf, v1=False):
    """Makes the variables; returns them by name (a partitioned one as the list of its parts).

    v1: only what the V1 format holds.
    """
    found = {}

    def add(name, value, **kwargs):
        found[name] = tf.get_variable(name, initializer=tf.constant(value), **kwargs)

    with tf.variable_scope("net"):
        # As an optimizer leaves them: a weight and its slots.
        for i, name in enumerate(["weights", "weights/Adam", "weights/Adam_1"]):
            add(name, pattern("float32", [3, 2], i))
    for i, dtype in enumerate(TYPES):
        if not (v1 and dtype in ("uint32", "uint64")):
            add("types/" + dtype, pattern(dtype, [5], i))
    if not v1:
        bfloat16 = tf.constant([1.5, -2.0, 0.25], tf.bfloat16)
        found["types/bfloat16"] = tf.get_variable("types/bfloat16", initializer=bfloat16)
    add("scalar", np.float32(0.75))
    add("empty", np.zeros([0, 3], np.float32))
    add("global_step", np.int64(1234567890123), trainable=False)
    add("text", np.array([[b"", b"a\x00b"], [b"\xff", b"x" * 300]], object), trainable=False)
    add("resource", pattern("float64", [2, 2, 2], 9), use_resource=True)
    with tf.device("/cpu:1"):
        add("elsewhere", pattern("float32", [7], 3))
    full = pattern("float32", [5, 4], 8)

    def part(shape, dtype=None, partition_info=None):
        first = partition_info.var_offset[0]
        return tf.constant(full[:3] if first == 0 else full[3:])

    for name, use_resource in (("parts", False), ("resource_parts", True)):
        with tf.variable_scope("cut"):
            parts = tf.get_variable(
                name,
                [5, 4],
                initializer=part,
                partitioner=tf.fixed_size_partitioner(2),
                use_resource=use_resource,
            )
        found["cut/" + name] = list(parts)
    return found


def build_few(tf):
    """Two variables, for the checkpoint that names them by objects."""
    first = tf.get_variable(
        "x/first", initializer=tf.constant(pattern("float32", [4], 1)), use_resource=True
    )
    second = tf.get_variable("second", initializer=tf.constant(np.int64(5)), use_resource=True)
    return [first, second]


# name -> arguments of the Saver
SAVERS = {"v2": {}, "sharded": {"sharded": True}, "v1": {"write_version": 1}}
