"""What Headrace has of TensorFlow 1.15's public names takes TensorFlow's arguments.

Names that Headrace lacks do not fail here; docs/names.md lists them.
"""

import collections
import enum
import functools
import inspect
import json

import pytest

from tests.conftest import SHARED

REFERENCE = SHARED / "reference" / "api_v1.15.json"
# compat.v1 is tf itself; compat.v2 has TensorFlow 2's signatures.
LEFT_OUT = ("tf.compat.v", "tf.lite.", "tf.tpu.", "tf.test.mock")
# Where Headrace differs on purpose. {public name: why}
DIFFERS = {
    "tf.keras.layers.GRUCell.build": "the table has the arguments of a decorator",
    "tf.keras.layers.LSTMCell.build": "the table has the arguments of a decorator",
    "tf.keras.layers.SimpleRNNCell.build": "the table has the arguments of a decorator",
    "tf.keras.layers.StackedRNNCells.build": "the table has the arguments of a decorator",
    "tf.nn.rnn_cell.BasicLSTMCell.build": "the table has the arguments of a decorator",
    "tf.nn.rnn_cell.BasicRNNCell.build": "the table has the arguments of a decorator",
    "tf.nn.rnn_cell.GRUCell.build": "the table has the arguments of a decorator",
    "tf.nn.rnn_cell.LSTMCell.build": "the table has the arguments of a decorator",
    "tf.Operation.__init__": "operations are made by Graph.create_op and tf.raw_ops alone",
    "tf.raw_ops.ImageSummary": "the table has bad_color as the text of a proto",
    "tf.raw_ops.PrintV2": "the table has a newline as two characters",
}
# Defaults that TensorFlow's tables show as an object's address or as what only it can mean.
_UNCOMPARABLE = ("<", "tensorflow.", "object", "namedtuple")


@functools.cache
def reference():
    if not REFERENCE.exists():
        return {}
    return json.loads(REFERENCE.read_text())


def is_compared(path, entry):
    last = path.rpartition(".")[2]
    private = last.startswith("_") and last != "__init__"
    return "args" in entry and not private and not path.startswith(LEFT_OUT) and path not in DIFFERS


def namespace_of(path, entry):
    """tf.nn.relu -> tf.nn;  tf.train.Saver.save -> tf.train."""
    owner = path.rpartition(".")[0]
    while reference()[owner]["kind"] != "module":
        owner = owner.rpartition(".")[0]
    return owner


@functools.cache
def by_namespace():
    groups = collections.defaultdict(dict)
    for path, entry in reference().items():
        if is_compared(path, entry):
            groups[namespace_of(path, entry)][path] = entry
    return groups


def find(root, path):
    """The value of a public name, or None. Inherited constructors of `object` do not count."""
    value = root
    for part in path.split(".")[1:]:
        if part == "__init__" and "__init__" not in {
            n for c in value.__mro__[:-1] for n in vars(c)
        }:
            return None
        value = getattr(value, part, None)
        if value is None:
            return None
    return value


def arguments(value):
    """([(name, default or empty)], takes any) of a function; None where Python cannot tell."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [
        (p.name, p.default) for p in parameters if p.kind in named and p.name not in ("self", "cls")
    ]
    return found, any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


def as_table_text(default):
    """A default as the reference table spells it."""
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    return getattr(default, "name", None) if hasattr(default, "as_numpy_dtype") else str(default)


def same_default(default, text):
    if default is inspect.Parameter.empty:
        return False
    if as_table_text(default) == text or text.startswith(_UNCOMPARABLE) or default == text:
        return True
    try:
        return float(default) == float(text)
    except (TypeError, ValueError):
        return str(default).replace("(", "[").replace(")", "]") == text.replace("(", "[").replace(
            ")", "]"
        )


def difference(value, entry):
    """What differs between a function of Headrace's and the table's entry, or None."""
    found = arguments(value)
    if found is None:
        return "Python cannot tell its arguments"
    (mine, takes_any), names = found, [n for n in entry["args"] if n not in ("self", "cls")]
    if takes_any and not mine and not entry.get("varargs"):
        return f"takes *args, TensorFlow takes {names}"
    if [name for name, _ in mine[: len(names)]] != names:
        return f"takes {[name for name, _ in mine]}, TensorFlow takes {names}"
    defaults = entry.get("defaults") or []
    offset = len(names) - len(defaults)
    for (name, default), text in zip(mine[offset:], defaults, strict=False):
        if not same_default(default, text):
            return f"{name} defaults to {default!r}, TensorFlow's to {text}"
    optional = [
        name for name, default in mine[: max(offset, 0)] if default is not inspect.Parameter.empty
    ]
    return f"{optional} must be given, as in TensorFlow" if optional else None


@pytest.mark.parametrize("namespace", sorted(by_namespace()) or ["tf"])
def test_arguments_are_tensorflows(namespace, reference):
    import headrace as tf

    wrong = []
    for path, entry in by_namespace()[namespace].items():
        value = find(tf, path)
        if value is not None and (what := difference(value, entry)):
            wrong.append(f"{path}: {what}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong)


def test_a_difference_is_seen():
    entry = {"args": ["x", "axis", "name"], "defaults": ["0", "None"]}
    assert difference(lambda x, axis=0, name=None: 0, entry) is None
    assert "takes ['x', 'name']" in difference(lambda x, name=None: 0, entry)
    assert "axis defaults to 1" in difference(lambda x, axis=1, name=None: 0, entry)
    assert "['x'] must be given" in difference(lambda x=None, axis=0, name=None: 0, entry)
    assert "takes *args" in difference(lambda *args: 0, entry)
