"""First runs: interpreted without compiling anything, the same from run to run, then the program, with the same numbers."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.runtime import first_runs
from headrace.runtime.first_runs import last_uses
from headrace.runtime.interpreter import Interpreter
from headrace.runtime.step import Step

needs_kernels = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")


def images(count, side, channels, classes):
    random = np.random.default_rng(1)
    x = random.standard_normal((count, side, side, channels)).astype(np.float32)
    return x, random.integers(0, classes, count).astype(np.int32)


def weight(*shape):
    return tf.Variable(tf.random_normal(shape, stddev=float(np.prod(shape[:-1])) ** -0.5))


def convolve(x, features, window, stride=1):
    w = weight(window, window, x.shape[-1].value, features)
    return tf.nn.conv2d(x, w, [1, stride, stride, 1], "SAME")


def dense(x, units):
    return tf.nn.bias_add(
        tf.matmul(x, weight(x.shape[-1].value, units)), tf.Variable([0.0] * units)
    )


def flatten(x):
    return tf.reshape(x, [-1, int(np.prod(x.shape.as_list()[1:]))])


def norm(x):
    vectors = [tf.Variable(tf.fill(x.shape[-1:], value)) for value in (1.0, 0.0)]
    return tf.nn.fused_batch_norm(x, *vectors, is_training=True)[0]


def perceptron(x):
    return dense(tf.nn.relu(dense(flatten(x), 128)), 10)


def lenet(x):
    x = tf.nn.max_pool(tf.nn.relu(convolve(x, 16, 5)), 2, 2, "VALID")
    x = tf.nn.avg_pool(tf.nn.relu(convolve(x, 24, 5)), [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    return dense(tf.nn.dropout(tf.nn.relu(dense(flatten(x), 64)), rate=0.3), 10)


def residual(x):
    for features, stride in ((8, 1), (16, 2)):
        y = tf.nn.relu(norm(convolve(x, features, 3, stride)))
        y = norm(convolve(y, features, 3))
        x = tf.nn.relu(y + (norm(convolve(x, features, 1, stride)) if stride > 1 else 0.1 * y))
    return dense(tf.reduce_mean(x, [1, 2]), 10)


OPTIMIZERS = {
    "perceptron": lambda: tf.train.AdamOptimizer(0.01),
    "lenet": lambda: tf.train.AdagradOptimizer(0.1),
    "residual": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
}
MODELS = {"perceptron": perceptron, "lenet": lenet, "residual": residual}


def training(name):
    """(graph, train and loss, what to feed)."""
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(3)
        batch = images(64, 28, 3, 10)
        x, y = tf.placeholder(tf.float32, [None, 28, 28, 3]), tf.placeholder(tf.int32, [None])
        logits = MODELS[name](x)
        loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
        train = OPTIMIZERS[name]().minimize(loss)
        start = tf.global_variables_initializer()
    return graph, start, [train, loss], dict(zip((x, y), batch, strict=True))


def losses(name, runs):
    graph, start, fetches, feed = training(name)
    with tf.Session(graph=graph) as session:
        session.run(start)
        return [float(session.run(fetches, feed)[1]) for _ in range(runs)]


@needs_kernels
@pytest.mark.parametrize("name", MODELS)
def test_initialising_and_the_first_step_compile_nothing(name):
    before = tf.compilations().count
    first = losses(name, 1)
    assert tf.compilations().count == before
    assert first == losses(name, 1)  # and give the same numbers each time


@needs_kernels
@pytest.mark.parametrize("name", MODELS)
def test_interpreted_steps_train_as_compiled_ones(name, monkeypatch):
    got = losses(name, 6)
    monkeypatch.setattr("headrace.runtime.step.runs_to_interpret", lambda *a, **k: 0)
    want = losses(name, 6)
    np.testing.assert_allclose(got[:3], want[:3], rtol=1e-4)
    np.testing.assert_allclose(got, want, rtol=2e-2)  # what differs in the last bits grows


@pytest.fixture
def large(monkeypatch):
    """Every step is a large one; gives the names of the threads in which islands were traced."""
    monkeypatch.setattr(first_runs, "_LARGE_ISLAND", 1)
    names = []
    program = Step._compiling

    def compiling(self, feed_values):
        compile = program(self, feed_values)

        def noted():
            names.append(threading.current_thread().name)
            compile()

        return noted

    monkeypatch.setattr(Step, "_compiling", compiling)
    return names


def small_step(graph):
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 3])
        w = tf.get_variable("w", [3, 2], initializer=tf.ones_initializer())
        loss = tf.reduce_sum(tf.square(tf.matmul(x, w)))
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        return x, [train, loss], tf.global_variables_initializer()


def test_a_large_step_is_compiled_in_another_thread_from_its_second_run_on(large):
    graph = tf.Graph()
    x, fetches, start = small_step(graph)
    feed = {x: np.eye(3, dtype=np.float32)}
    found = []
    with tf.Session(graph=graph) as session:
        session.run(start)
        counts = []
        for _ in range(7):
            found.append(session.run(fetches, feed)[1])
            counts.append(len(large))
        assert counts[0] == 0 and large == ["compiler"]
        before = tf.compilations().count
        session.run(fetches, feed)
        assert tf.compilations().count == before
    want = [6 * (1 - 0.02) ** (2 * i) for i in range(7)]
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_what_runs_once_is_never_compiled(large):
    graph = tf.Graph()
    x, fetches, start = small_step(graph)
    with tf.Session(graph=graph) as session:
        session.run(start)
        session.run(fetches, {x: np.eye(3, dtype=np.float32)})
    assert not large


def test_the_switch_comes_after_the_same_number_of_runs_however_fast_the_compiler_is(monkeypatch):
    monkeypatch.setattr(first_runs, "_LARGE_ISLAND", 1)
    compiled = []
    run = Step._run_compiled
    monkeypatch.setattr(
        Step, "_run_compiled", lambda self, values: compiled.append(1) or run(self, values)
    )
    release = threading.Event()
    compiling = Step._compiling

    def slow(self, feed_values):
        compile = compiling(self, feed_values)
        return lambda: (release.wait(30), compile())

    monkeypatch.setattr(Step, "_compiling", slow)
    graph = tf.Graph()
    x, fetches, start = small_step(graph)
    feed = {x: np.eye(3, dtype=np.float32)}
    with tf.Session(graph=graph) as session:
        session.run(start)
        for _ in range(first_runs._RUNS_OF_LARGE_ISLANDS):
            session.run(fetches, feed)
        assert not compiled
        threading.Timer(0.1, release.set).start()
        session.run(fetches, feed)  # waits
        assert compiled and release.is_set()


def test_what_fails_in_the_other_thread_is_met_by_the_run_that_compiles(large, monkeypatch):
    graph = tf.Graph()
    x, fetches, start = small_step(graph)
    feed = {x: np.eye(3, dtype=np.float32)}
    attempts = []

    def refuse(op, *values):
        attempts.append(threading.current_thread().name)
        raise op.invalid("not this time")

    with tf.Session(graph=graph) as session:
        session.run(start)
        session.run(fetches, feed)
        definition = fetches[1].op._definition
        monkeypatch.setattr(definition, "lower_rule", refuse)
        for _ in range(first_runs._RUNS_OF_LARGE_ISLANDS - 1):
            session.run(fetches, feed)
        with pytest.raises(tf.errors.InvalidArgumentError, match="not this time"):
            session.run(fetches, feed)
        assert attempts[0] == "compiler" and attempts[-1] == threading.current_thread().name
        monkeypatch.undo()
        assert np.isfinite(session.run(fetches, feed)[1])


def test_a_process_may_end_while_a_step_is_compiled():
    program = """
        import numpy as np
        import headrace as tf
        x = tf.placeholder(tf.float32, [None, 8])
        y = x
        for _ in range(160):
            y = tf.sin(y) + tf.tanh(y) * 0.5
        with tf.Session() as session:
            for _ in range(2):
                print(session.run(y, {x: np.ones((2, 8))}).shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(2, 8)") == 2


def test_slow_numpy_rules_are_for_few_elements():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None])
        y = tf.igamma(x, 2.0)
    for size, programs in ((400, 0), (70_000, 1)):
        with tf.Session(graph=graph) as session:
            before = tf.compilations().count
            session.run(y, {x: np.ones(size)})
            assert tf.compilations().count - before == programs


def test_values_are_let_go_after_their_last_use():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2])
        a, unused = tf.split(x, 2)
        b = a + a
        c = b * a
        uses = last_uses([a.op, b.op, c.op], [], [x, c])
        others = last_uses([a.op, b.op], [c.op], [x])
    split_axis = a.op.inputs[0]
    assert uses == {c.op: (b, a), a.op: (unused, split_axis)}
    assert others == {a.op: (unused, split_axis)}  # c still takes a and b


def test_the_values_of_an_interpreted_run_are_not_all_held_at_once(monkeypatch):
    most = 0
    evaluate = Interpreter.evaluate

    def counted(self, op, values, *rest):
        nonlocal most
        most = max(most, len(values))
        return evaluate(self, op, values, *rest)

    monkeypatch.setattr(Interpreter, "evaluate", counted)
    monkeypatch.setattr("headrace.runtime.interpreter.ready", lambda *a: None)
    with tf.Graph().as_default() as graph:
        x = y = tf.placeholder(tf.float32, [4])
        for _ in range(50):
            y = tf.sin(y)
        with tf.Session(graph=graph) as session:
            session.run(y, {x: np.ones(4)})
    assert most == 2


def test_large_sums_of_a_step_that_changes_nothing_have_the_same_bits_each_time():
    x = tf.placeholder(tf.float32, [64, 1000])
    w = tf.Variable(np.float32(np.random.RandomState(0).randn(1000, 100)))
    products = tf.matmul(x, w)
    sums = tf.reduce_sum(tf.square(products), 1)
    fed = np.float32(np.random.RandomState(1).randn(64, 1000))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        runs = [sess.run([products, sums], {x: fed}) for _ in range(3)]
    for other in runs[1:]:
        for first, later in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(first, later)
