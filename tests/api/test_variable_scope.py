"""Graphs and errors of programs with variables, against TensorFlow's; sharing through scopes, getters and creators."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api import variable_programs as programs

ANSWERS = json.loads((Path(__file__).parents[1] / "data/variables/answers.json").read_text())
ERRORS = programs.errors(tf)
# Errors of shape rules name the op first; the words that people search for are the same.
WORDS = {"rank": "Shapes must be equal rank, but are 1 and 2"}


@pytest.mark.parametrize("build", programs.GRAPHS, ids=lambda build: build.__name__)
def test_graph(build):
    got = programs.graph_of(tf, build)
    for mine, theirs in zip(got, ANSWERS["graphs"][build.__name__], strict=False):
        assert mine == theirs
    assert len(got) == len(ANSWERS["graphs"][build.__name__])


@pytest.mark.parametrize("what", ERRORS, ids=lambda what: what.replace(" ", "-"))
def test_error(what):
    kind, text = ANSWERS["errors"][what]
    mine = programs.failure(tf, ERRORS[what])
    assert mine is not None and mine[0] == kind
    if what in WORDS:
        assert WORDS[what] in mine[1] and WORDS[what] in text
    else:
        # Ours goes on: what was given, and where the variable was made.
        assert mine[1].startswith(text)


def test_conflict_names_the_line_of_the_first():
    tf.get_variable("x", [2])
    with pytest.raises(
        ValueError,
        match=r'(?s)Originally defined at:.*test_variable_scope.py.*get_variable\("x", \[2\]\)',
    ):
        tf.get_variable("x", [2])


def test_scope_defaults():
    keep = lambda v: v * 2.0  # noqa: E731
    with tf.variable_scope(
        "a",
        initializer=tf.constant_initializer(4),
        dtype=tf.float64,
        regularizer=tf.identity,
        constraint=keep,
        use_resource=True,
    ) as a:
        with tf.variable_scope("b", regularizer=tf.no_regularizer) as b:
            v = tf.get_variable("v", [2])
        w = tf.get_variable("w", [], trainable=False)
    assert (v.name, v.dtype, a.name, b.name) == ("a/b/v:0", tf.float64, "a", "a/b")
    # A constraint is not handed down to scopes inside.
    assert v.constraint is None and w.constraint is keep
    assert [t.op.name for t in tf.get_collection("regularization_losses")] == [
        "a/w/Regularizer/Identity"
    ]
    assert (
        a.trainable_variables() == [v]
        and a.global_variables() == [v, w]
        and a.local_variables() == []
    )
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(sess.run(v), [4.0, 4.0])


def test_custom_getters_nest():
    calls = []

    def getter(tag):
        def get(getter, name, *args, **kwargs):
            calls.append((tag, name, kwargs["reuse"]))
            return tf.identity(getter(f"{name}_{tag}", *args, **kwargs), name=tag)

        return get

    with tf.variable_scope("s", custom_getter=getter("outer")):
        with tf.variable_scope("t", custom_getter=getter("inner"), reuse=tf.AUTO_REUSE):
            x = tf.get_variable("v", [1])
            tf.get_variable("v", [1])
    assert calls == [("inner", "s/t/v", tf.AUTO_REUSE), ("outer", "s/t/v_inner", tf.AUTO_REUSE)] * 2
    assert x.op.type == "Identity"
    assert [v.name for v in tf.global_variables()] == ["s/t/v_inner_outer:0"]


def test_creator_scopes():
    seen = []

    def creator(tag, **changes):
        def create(next_creator, **kwargs):
            seen.append((tag, kwargs["name"]))
            return next_creator(**{**kwargs, **changes})

        return create

    with tf.variable_creator_scope(creator("outer", trainable=False)):
        with tf.variable_creator_scope(creator("inner", name="renamed")):
            v = tf.get_variable("v", [1])
    # The innermost creator comes first.
    assert seen == [("inner", "v"), ("outer", "renamed")]
    assert v.name == "renamed:0" and not v.trainable and tf.trainable_variables() == []


def test_default_flavour():
    assert not tf.resource_variables_enabled()
    tf.enable_resource_variables()
    try:
        assert tf.get_variable("r", [1]).op.type == "VarHandleOp"
        assert tf.Variable(1.0, use_resource=False).op.type == "VariableV2"
    finally:
        tf.disable_resource_variables()
    assert tf.Variable(1.0).op.type == "VariableV2"


def test_scope_of_a_thread_is_its_own():
    names = []

    def work(graph):
        with graph.as_default():
            names.append(tf.get_variable("x", [1]).name)

    with tf.variable_scope("main"):
        thread = threading.Thread(target=work, args=(tf.get_default_graph(),))
        thread.start()
        thread.join()
        names.append(tf.get_variable("x", [1]).name)
    assert names == ["x:0", "main/x:0"]


def test_initializer_forms():
    a = tf.get_variable("a", initializer=np.float64([1, 2]))
    b = tf.get_variable("b", initializer=lambda: tf.constant([3]))
    c = tf.get_variable("c", [2], initializer=tf.ones_initializer)
    d = tf.get_variable("d", [2], dtype=tf.int32)
    e = tf.get_variable("e", [], dtype=tf.string)
    assert [v.dtype.base_dtype for v in (a, b, c, d, e)] == [
        tf.float64,
        tf.int32,
        tf.float32,
        tf.int32,
        tf.string,
    ]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = [np.asarray(v).tolist() for v in sess.run([a, b, c, d, e])]
    assert values == [[1.0, 2.0], [3], [1.0, 1.0], [0, 0], b""]


def test_partitioned_variable_is_one_tensor():
    value = np.arange(21, dtype=np.float32).reshape(7, 3)
    with tf.variable_scope("s", partitioner=tf.fixed_size_partitioner(3)):
        v = tf.get_variable("v", initializer=tf.constant(value))
    double = v.assign_add(value, use_locking=True)
    assert [p.shape.as_list() for p in v] == [[3, 3], [2, 3], [2, 3]] and len(v) == 3
    assert list(v)[1]._get_save_slice_info().spec == "7 3 3,2:0,3"
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(sess.run(tf.convert_to_tensor(v)), value)
        sess.run(double)
        np.testing.assert_array_equal(sess.run(tf.identity(v)), 2 * value)
    with tf.variable_scope("s", reuse=True):
        assert tf.get_variable("v") is v


@pytest.mark.parametrize(
    ("partitioner", "shape", "parts"),
    [
        (tf.variable_axis_size_partitioner(64), [10, 4], [3, 1]),
        (tf.variable_axis_size_partitioner(64, max_shards=2), [10, 4], [2, 1]),
        (tf.variable_axis_size_partitioner(8, axis=1), [1, 4], [1, 2]),
        (tf.min_max_variable_partitioner(max_partitions=8, min_slice_size=64), [10, 4], [3, 1]),
        (
            tf.min_max_variable_partitioner(max_partitions=2, axis=1, min_slice_size=4),
            [10, 4],
            [1, 2],
        ),
        (tf.fixed_size_partitioner(4, axis=1), [10, 3], [1, 3]),
    ],
)
def test_partitioners(partitioner, shape, parts):
    assert list(partitioner(shape=tf.TensorShape(shape), dtype=tf.float32)) == parts


def test_templates_share():
    layer = tf.make_template(
        "layer", lambda x, scale: scale * x * tf.get_variable("w", initializer=3.0), scale=2.0
    )
    assert layer.variables == [] and layer.variable_scope is None
    a, b = layer(1.0), layer(5.0)
    assert len(tf.global_variables()) == 1 and layer.trainable_variables == tf.trainable_variables()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run([a, b]) == [6.0, 30.0]
    grows = tf.make_template("grows", lambda: tf.Variable(1.0))
    grows()
    with pytest.raises(
        ValueError,
        match=r"(?s)Trainable variable created.*originally defined at.*test_variable_scope",
    ):
        grows()
