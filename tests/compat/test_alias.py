"""The import alias, on a small stand-in for Headrace: what is found where, and what is refused."""

import importlib
import sys
import types

import pytest

from headrace.compat import alias, private_names


class GraphDef:
    DESCRIPTOR = "public"


@pytest.fixture
def target():
    """A module `tf_for_test` with a few public names, installed under the name tensorflow."""
    root = types.ModuleType("tf_for_test")
    root.__path__ = []
    root.add, root.constant, root.GraphDef = (lambda x, y: x + y), (lambda value: value), GraphDef
    root.zeros_initializer, root.VERSION, root.core = object(), "1.15.5", "a room, not a name"
    root.gradients = lambda ys, xs: (ys, xs)
    root.nn = types.ModuleType("tf_for_test.nn")
    root.nn.relu, root.nn.rnn_cell = abs, types.SimpleNamespace(LSTMStateTuple=tuple)
    root.contrib = types.ModuleType("tf_for_test.contrib")
    root.contrib.layers = types.ModuleType("tf_for_test.contrib.layers")
    root.contrib.layers.l2_regularizer = float
    root.raw_ops = types.SimpleNamespace(FusedBatchNormV2=max, Relu6Grad=min)
    root.compat = types.ModuleType("tf_for_test.compat")
    root.train = types.SimpleNamespace(Saver=object)
    sys.modules["tf_for_test"] = root
    alias.remove_alias()
    alias.install_alias(root)
    yield root
    alias.remove_alias()
    del sys.modules["tf_for_test"]


def run(source):
    names = {}
    exec(source, names)
    return names


FOUND = [
    # statement, expression, what it is
    ("import tensorflow as tf", "tf.add", "add"),
    ("import tensorflow", "tensorflow.nn.relu", "nn.relu"),
    ("import tensorflow.nn as nn", "nn.relu", "nn.relu"),
    ("from tensorflow import nn, add", "add", "add"),
    ("from tensorflow.nn import relu", "relu", "nn.relu"),
    ("import tensorflow.nn.rnn_cell as c", "c.LSTMStateTuple", "nn.rnn_cell.LSTMStateTuple"),
    ("import tensorflow.compat.v1 as tf", "tf.add", "add"),
    ("from tensorflow.compat.v1.train import Saver", "Saver", "train.Saver"),
    (
        "from tensorflow.contrib import layers",
        "layers.l2_regularizer",
        "contrib.layers.l2_regularizer",
    ),
    ("import tensorflow.contrib.layers as l", "l.l2_regularizer", "contrib.layers.l2_regularizer"),
    (
        "from tensorflow.contrib.layers.python.layers import regularizers as r",
        "r.l2_regularizer",
        "contrib.layers.l2_regularizer",
    ),
    ("from tensorflow.python.framework import constant_op as c", "c.constant", "constant"),
    ("import tensorflow as tf", "tf.python.framework.constant_op.constant", "constant"),
    ("from tensorflow.python.ops import math_ops", "math_ops.add", "add"),
    ("from tensorflow.python.ops import init_ops", "init_ops.Zeros", "zeros_initializer"),
    ("from tensorflow.python.ops import gradients", "gradients.gradients", "gradients"),
    (
        "from tensorflow.python.ops.rnn_cell_impl import *",
        "LSTMStateTuple",
        "nn.rnn_cell.LSTMStateTuple",
    ),
    (
        "from tensorflow.python.ops import gen_nn_ops",
        "gen_nn_ops.fused_batch_norm_v2",
        "raw_ops.FusedBatchNormV2",
    ),
    ("from tensorflow.python.ops import nn_ops", "nn_ops.relu", "nn.relu"),
    ("from tensorflow.python.ops import nn_ops", "nn_ops._relu6_grad", "raw_ops.Relu6Grad"),
    ("from tensorflow.python.training import saver", "saver.Saver", "train.Saver"),
    ("from tensorflow.core.framework import graph_pb2 as g", "g.GraphDef", "GraphDef"),
]


@pytest.mark.parametrize(
    ("statement", "expression", "public"), FOUND, ids=[f"{s}; {e}" for s, e, _ in FOUND]
)
def test_is_the_public_one(target, statement, expression, public):
    wanted = target
    for part in public.split("."):
        wanted = getattr(wanted, part)
    assert eval(expression, run(statement)) is wanted


def test_messages_that_are_not_public_are_tensorboards(target):
    from tensorboard.compat.proto import types_pb2

    names = run("from tensorflow.core.framework import types_pb2, node_def_pb2")
    assert names["types_pb2"].DT_FLOAT == types_pb2.DT_FLOAT
    assert names["node_def_pb2"].NodeDef(name="a").name == "a"


REFUSED = [
    ("import tensorflow.nothing", "tf.nothing"),
    ("from tensorflow import nothing", "tf.nothing"),
    ("from tensorflow.nn import nothing", "tf.nn.nothing"),
    ("import tensorflow.add", "tf.add"),
    ("from tensorflow.python.framework import nothing", "tf.python.framework.nothing"),
    (
        "from tensorflow.python.framework.constant_op import nothing",
        "tf.python.framework.constant_op.nothing",
    ),
    ("from tensorflow.contrib import rnn", "tf.contrib.rnn"),
    ("from tensorflow.contrib.rnn.python.ops import rnn_cell", "tf.contrib.rnn"),
    ("from tensorflow import core as room; room.framework.nothing", "tf.core.framework.nothing"),
    ("from tensorflow.core.framework import nothing_pb2", "tf.core.framework.nothing_pb2"),
    ("import tensorflow as tf; tf.nothing", "tf.nothing"),
    ("import tensorflow as tf; tf.graph", "tf.graph"),
]


@pytest.mark.parametrize(("statement", "name"), REFUSED)
def test_what_is_missing_is_named(target, statement, name):
    with pytest.raises((ImportError, AttributeError), match=rf"does not have\s+{name}\b"):
        run(statement)


def test_a_program_can_look_before_it_imports(target):
    names = run(
        "import tensorflow as tf\n"
        "try:\n  from tensorflow.nothing import x\nexcept ModuleNotFoundError:\n  x = 1\n"
        "try:\n  from tensorflow.nn import nothing\nexcept ImportError:\n  y = 2\n"
        "z = hasattr(tf, 'nothing'), hasattr(tf, 'add'), 'add' in dir(tf), 'core' in dir(tf)"
    )
    assert (names["x"], names["y"], names["z"]) == (1, 2, (False, True, True, False))


def test_the_version_is_tensorflows(target):
    tf = run("import tensorflow as tf")["tf"]
    assert (tf.__version__, tf.VERSION, tf.__name__) == ("1.15.5", "1.15.5", "tensorflow")


def test_the_target_is_left_as_it_was(target):
    before = dict(vars(target))
    run(
        "import tensorflow.core.framework.graph_pb2, tensorflow.python.ops.array_ops, tensorflow.nn"
    )
    assert {k: v for k, v in vars(target).items() if before.get(k) is not v} == {}


def test_installing_twice_is_installing_once(target):
    count = len(sys.meta_path)
    alias.install_alias(target)
    assert len(sys.meta_path) == count


def test_the_real_tensorflow_is_not_replaced(target, monkeypatch):
    real = types.ModuleType("tensorflow")
    real.__version__ = "1.15.0"
    monkeypatch.setitem(sys.modules, "tensorflow", real)
    with pytest.raises(ImportError, match=r"too late: TensorFlow 1\.15\.0 is already imported"):
        alias.install_alias(target)


def test_tensorboard_keeps_its_own_stand_in(target):
    compat = importlib.import_module("tensorboard.compat")
    assert compat.tf.__version__ == "stub"


def test_the_table_names_what_tensorflow_has(reference):
    import json

    public = json.loads((reference / "api_v1.15.json").read_text())
    spaces = {space for found in private_names.MODULES.values() for space in found}
    unknown = {s for s in spaces if s and f"tf.{s}" not in public}
    assert {s for s in unknown if not s.startswith(("contrib.", "keras.preprocessing."))} == set()
    assert {n for n in private_names.RENAMED.values() if f"tf.{n}" not in public} == set()
