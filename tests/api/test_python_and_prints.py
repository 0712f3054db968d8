"""Python functions in graphs, and what graphs print."""

import threading

import numpy as np
import pytest

import headrace as tf


@pytest.fixture
def sess():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def test_types_and_structures_of_python_calls(sess):
    x, s = tf.constant([1.0, 2.0]), tf.constant(["a", "bc"])
    twice = tf.py_func(lambda v: v * 2, [x], tf.float32)
    pair = tf.py_func(lambda v: (v.sum(), np.int64(len(v))), [x], [tf.float32, tf.int64])
    text = tf.py_func(lambda v: np.array([t + b"!" for t in v], dtype=object), [s], tf.string)
    nothing = tf.py_func(lambda: None, [], [])
    assert isinstance(nothing, tf.Operation) and twice.shape.ndims is None
    for _ in range(3):
        assert sess.run(twice).tolist() == [2.0, 4.0]
        assert sess.run(pair) == [3.0, 2]
        assert sess.run(text).tolist() == [b"a!", b"bc!"]
        assert sess.run(nothing) is None


def test_results_and_arguments_belong_to_the_function(sess):
    kept = []

    def keep(v):
        kept.append(v)
        v[0] = 100.0
        return v

    x = tf.placeholder(tf.float32, [2])
    y = tf.py_func(keep, [x * 1.0], tf.float32)
    first = sess.run(y, {x: [1.0, 2.0]})
    second = sess.run(y, {x: [3.0, 4.0]})
    kept[1][1] = -1.0
    assert first.tolist() == [100.0, 2.0] and second.tolist() == [100.0, 4.0]


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        (StopIteration("end"), tf.errors.OutOfRangeError),
        (ValueError("bad"), tf.errors.InvalidArgumentError),
        (TypeError("bad"), tf.errors.InvalidArgumentError),
        (MemoryError("full"), tf.errors.ResourceExhaustedError),
        (NotImplementedError("later"), tf.errors.UnimplementedError),
        (KeyError("other"), tf.errors.UnknownError),
    ],
)
def test_exceptions_become_errors_of_the_step(sess, raised, caught):
    def fail():
        raise raised

    with pytest.raises(caught, match=type(raised).__name__) as info:
        sess.run(tf.py_func(fail, [], tf.float32))
    assert "PyFunc op 'PyFunc'" in str(info.value) and __file__ in str(info.value)


def test_wrong_results_are_refused(sess):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expects float"):
        sess.run(tf.py_func(lambda: np.array([1], np.int64), [], tf.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="returned 1 values"):
        sess.run(tf.py_func(lambda: 1.0, [], [tf.float32, tf.float32]))
    with pytest.raises(tf.errors.InternalError, match="Unsupported object type"):
        sess.run(tf.py_func(lambda: {"a": 1}, [], tf.int64))
    with pytest.raises(ValueError, match="callable"):
        tf.py_func("no", [], tf.float32)


def test_the_graph_keeps_the_function_and_threads_share_it(sess):
    x = tf.placeholder(tf.int64, [])

    def build():
        offset = 10
        return tf.py_func(lambda v: v + offset, [x], tf.int64)

    y = build()
    results = {}

    def work(i):
        results[i] = sess.run(y, {x: i})

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: i + 10 for i in range(8)}


def test_a_python_call_inside_branches_and_loops(sess):
    seen = []

    def note(v):
        seen.append(int(v))
        return v

    p = tf.placeholder(tf.bool, [])
    branch = tf.cond(
        p, lambda: tf.py_func(note, [tf.constant(7)], tf.int32), lambda: tf.constant(0)
    )
    loop = tf.while_loop(
        lambda i: i < 3, lambda i: tf.reshape(tf.py_func(note, [i], tf.int32), []) + 1, [0]
    )
    assert sess.run(branch, {p: False}) == 0 and seen == []
    assert sess.run(branch, {p: True}) == 7 and seen == [7]
    assert sess.run(loop) == 3 and seen == [7, 0, 1, 2]


# What TensorFlow 1.15 prints, by `tf.Print`.
FIRST_ELEMENTS = [
    ([1, 2, 3], {}, "[1 2 3]"),
    ([1, 2, 3, 4, 5], {}, "[1 2 3...]"),
    ([[1, 2], [3, 4]], {}, "[[1 2][3...]...]"),
    ([[1, 2], [3, 4]], {"summarize": 10}, "[[1 2][3 4]]"),
    (3.14159265358979, {}, "[3.14159274]"),
    ([1e10, 1e-10, 0.1], {}, "[1e+10 1e-10 0.1]"),
    ([True, False], {}, "[1 0]"),
    (["a", "b\n"], {}, "[a b\\n]"),
    ([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], {"summarize": 5}, "[[[1 2][3 4]][[5...]]...]"),
    (np.zeros((0, 3)), {}, "[]"),
    (np.float64(1) / 3, {}, "[0.33333333333333331]"),
    ([1, 2, 3, 4], {"summarize": -1}, "[1 2 3 4]"),
    ([1, 2, 3], {"message": "msg: "}, "msg: [1 2 3]"),
    ([float("nan"), float("inf"), -float("inf")], {}, "[nan inf -inf]"),
]


@pytest.mark.parametrize(("value", "arguments", "text"), FIRST_ELEMENTS)
def test_print_writes_to_standard_error(sess, capsys, value, arguments, text):
    assert sess.run(tf.Print(tf.constant(5), [tf.constant(value)], **arguments)) == 5
    assert capsys.readouterr().err == text + "\n"


def test_print_stops_after_first_n_and_passes_gradients(sess, capsys):
    x = tf.constant(2.0)
    y = tf.Print(x * 3.0, [x], first_n=2)
    (grad,) = tf.gradients(y, [x])
    for _ in range(4):
        assert sess.run([y, grad]) == [6.0, 3.0]
    assert capsys.readouterr().err == "[2]\n[2]\n"


def test_print_of_structures(sess, capsys, tmp_path):
    import sys

    x = tf.constant([[1, 2, 3], [4, 5, 6]])
    sess.run(tf.print("hi", x, {"a": x}, [1, 2], summarize=2))
    assert capsys.readouterr().err == "hi [[1 2 3]\n [4 5 6]] {'a': [[1 2 3]\n [4 5 6]]} [1, 2]\n"
    sess.run(tf.print(tf.range(100)))
    assert capsys.readouterr().err == "[0 1 2 ... 97 98 99]\n"
    sess.run(tf.print(x, 1.5, "z", sep="|", output_stream=sys.stdout, end="END\n"))
    assert capsys.readouterr().out == "[[1 2 3]\n [4 5 6]]|1.5|zEND\n"
    sess.run(tf.print("to a file", output_stream=f"file://{tmp_path}/log"))
    assert (tmp_path / "log").read_text() == "to a file\n"
    with pytest.raises(ValueError, match="output stream"):
        tf.print("x", output_stream=3)


def test_check_numerics_and_assertions_name_the_line(sess):
    x = tf.placeholder(tf.float32, [3])
    checked = tf.check_numerics(x, "loss")
    ok = tf.Assert(tf.reduce_all(x > 0), ["not positive:", x])
    with tf.control_dependencies([ok]):
        y = x * 2.0
    for _ in range(3):
        assert sess.run(checked, {x: [1.0, 2.0, 3.0]}).tolist() == [1.0, 2.0, 3.0]
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"(?s)loss : Tensor had NaN values.*defined at"
        ):
            sess.run(checked, {x: [1.0, np.nan, 3.0]})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Tensor had Inf and NaN values"):
            sess.run(checked, {x: [np.inf, np.nan, 3.0]})
        assert sess.run(y, {x: [1.0, 2.0, 3.0]}).tolist() == [2.0, 4.0, 6.0]
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"assertion failed: \[not positive:\] \[1 -2 3\]"
        ):
            sess.run(y, {x: [1.0, -2.0, 3.0]})
