"""The tensors of the stored checkpoints: (name, shape and slice, dtype name, array).

Read by Python 3.7 (with the TensorFlow that writes them) and by the tests; numbers are raw bytes
in a pattern. Types that NumPy has no name for come as unsigned integers of the same width.
"""

import numpy as np

_CARRIERS = {
    "bfloat16": "uint16",
    "qint8": "int8",
    "quint8": "uint8",
    "qint16": "int16",
    "quint16": "uint16",
    "qint32": "int32",
}
V1_TYPES = (
    "float32 float64 int32 uint8 int16 int8 complex64 int64 bool qint8 quint8 qint32 "
    "uint16 complex128 float16"
).split()
V2_TYPES = [*V1_TYPES, "qint16", "quint16", "bfloat16", "uint32", "uint64"]


def pattern(dtype_name, shape, seed=0):
    """Returns an array of `shape` whose bytes are a pattern."""
    carrier = np.dtype(_CARRIERS.get(dtype_name, dtype_name))
    count = int(np.prod(shape, dtype=np.int64))
    raw = (np.arange(count * carrier.itemsize) * 37 + 11 * seed + 5) % 251
    if dtype_name == "bool":
        raw %= 2
    return raw.astype(np.uint8).view(carrier).reshape(shape)


def strings(*items):
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array


STRINGS = {
    "strings/matrix": strings(b"", b"a", b"\x00\xff", "h\u00e9".encode(), b"x" * 200, b"y").reshape(
        2, 3
    ),
    "strings/none": strings(),
    "strings/scalar": strings(b"one").reshape(()),
}


def _slices(name, shape, specs, dtype_name="float32"):
    """Returns the slices of a tensor, cut from one pattern."""
    full = pattern(dtype_name, shape, 7)
    tensors = []
    for spec in specs:
        index = []
        for item in spec.split(":"):
            start, _, length = item.partition(",")
            index.append(
                slice(None) if item == "-" else slice(int(start), int(start) + int(length))
            )
        text = " ".join(map(str, shape)) + " " + spec
        tensors.append((name, text, dtype_name, full[tuple(index)]))
    return tensors


GRID = ["0,2:0,130", "0,2:130,70", "2,3:-"]
ROWS = ["0,9000:-", "9000,3:-"]


def _plain(types):
    tensors = [("all/" + t, "", t, pattern(t, (2, 3), i)) for i, t in enumerate(types)]
    tensors += [("scalar/" + t, "", t, pattern(t, (), i)) for i, t in enumerate(types)]
    tensors += [("empty/" + t, "", t, pattern(t, (0, 3), i)) for i, t in enumerate(types)]
    tensors += [(name, "", "string", array) for name, array in STRINGS.items()]
    # Names that the code of slice keys has to escape, and one beyond ASCII.
    tensors.append(("odd\u00ff name", "", "int32", pattern("int32", (1,), 3)))
    return tensors


def v2_tensors():
    return (
        _plain(V2_TYPES)
        + _slices("part/grid", (5, 200), GRID)
        + _slices("part/rows", (9003, 1), ROWS, "int8")
        + _slices("part/whole", (3, 2), ["0,3:-"], "int64")
    )


def v1_tensors():
    return _plain(V1_TYPES) + _slices("part/grid", (5, 200), GRID)


def shards():
    """Returns the tensors of three bundles that are merged."""
    grid = _slices("part/grid", (5, 200), GRID)
    return [
        [("b", "", "float32", pattern("float32", (4,), 1)), grid[0]],
        [("a", "", "int64", pattern("int64", (2, 2), 2)), grid[2]],
        [grid[1], ("strings", "", "string", STRINGS["strings/matrix"])],
    ]


def many_tensors():
    """Returns enough tensors for tables of several blocks."""
    tensors = []
    for i in range(6000):
        name = f"layer_{i % 17}/block_{i}/weights/with_a_long_name"
        tensors.append((name, "", "float32", pattern("float32", (i % 40,), i)))
    return tensors
