"""Sessions: what can be fetched and fed, when they open and close, and what each of them keeps for itself."""

import collections
import gc
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.session.fetches import register_session_run_conversion_functions

Pair = collections.namedtuple("Pair", "first second")


def attrs_like():
    field = collections.namedtuple("Attribute", "name")

    class Record:
        __attrs_attrs__ = (field("a"), field("b"))

        def __init__(self, a, b):
            self.a, self.b = a, b

        def __eq__(self, other):
            return (self.a, self.b) == (other.a, other.b)

    return Record


# ---- fetching


def test_fetches_come_back_in_their_structure():
    a, b = tf.constant(1.0, name="a"), tf.constant([2, 3], name="b")
    op = tf.no_op(name="nothing")
    sess = tf.Session()
    one, both = np.float32(1.0), [2, 3]

    def same(got, wanted):
        assert type(got) is type(wanted), (got, wanted)
        if isinstance(wanted, dict):
            assert list(got) == list(wanted)
            got, wanted = list(got.values()), list(wanted.values())
        if isinstance(wanted, (list, tuple)):
            assert len(got) == len(wanted)
            for g, w in zip(got, wanted, strict=True):
                if w is both:
                    assert g.dtype == np.int32 and g.tolist() == both
                else:
                    same(g, w)
        else:
            assert got == wanted

    ordered = collections.OrderedDict
    for fetches, wanted in [
        (a, one),
        (a.op, None),
        ([], []),
        ((), ()),
        ({}, {}),
        ([a], [one]),
        ((a, b), (one, both)),
        ([a, a, [a]], [one, one, [one]]),
        ({"x": a, "y": [b, op]}, {"x": one, "y": [both, None]}),
        (ordered([("z", a), ("y", b)]), ordered([("z", one), ("y", both)])),
        (Pair(a, (b,)), Pair(one, (both,))),
        ("a:0", one),
        ("a", None),
        (["b:0", b"a:0"], [both, one]),
    ]:
        for _ in range(3):  # interpreted, compiled, and by the key
            same(sess.run(fetches), wanted)
    record = attrs_like()
    assert sess.run(record(a, [a])) == record(one, [one])
    default = sess.run(collections.defaultdict(list, {"x": a}))
    assert dict(default) == {"x": one}


def test_results_belong_to_the_caller():
    c = tf.constant([1.0, 2.0])
    v = tf.Variable([1.0, 2.0])
    x = tf.placeholder(tf.float32, [2])
    sess = tf.Session()
    sess.run(v.initializer)
    fed = np.array([1.0, 2.0], np.float32)
    for fetch in (c, v, tf.identity(v), x, tf.identity(x), c * 2.0):
        for _ in range(3):
            first = sess.run(fetch, {x: fed})
            assert first.flags.writeable
            first += 100.0
            assert (sess.run(fetch, {x: fed}) < 10).all()
    assert fed.tolist() == [1.0, 2.0]


def test_indexed_slices_are_fetched_and_fed():
    for dense in (None, [4, 1]):
        slices = tf.IndexedSlices(
            tf.constant([[1.0], [2.0]]),
            tf.constant([3, 0]),
            None if dense is None else tf.constant(dense),
        )
        sess = tf.Session()
        values, indices, shape = sess.run(slices)
        assert values.tolist() == [[1.0], [2.0]] and indices.tolist() == [3, 0]
        assert shape is None if dense is None else shape.tolist() == dense
        total = tf.reduce_sum(slices.values) + tf.cast(tf.reduce_sum(slices.indices), tf.float32)
        assert (
            sess.run(total, {slices: ([[5.0], [6.0]], [1, 1], dense)[: 2 if dense is None else 3]})
            == 13.0
        )
        assert sess.run(total, {slices: sess.run(slices)}) == 6.0


def test_own_types_are_fetched_and_fed():
    @dataclass(frozen=True)
    class Interval:
        low: object
        high: object

    register_session_run_conversion_functions(
        Interval,
        lambda i: ([i.low, i.high], tuple),
        lambda i, value: [(i.low, value[0]), (i.high, value[1])],
        lambda i: [i.low, i.high],
    )
    with pytest.raises(ValueError, match="already been registered"):
        register_session_run_conversion_functions(Interval, None)
    interval = Interval(tf.constant(1.0), tf.constant(2.0))
    width = interval.high - interval.low
    sess = tf.Session()
    assert sess.run([interval, width]) == [(1.0, 2.0), 1.0]
    assert sess.run([interval, width], {interval: (5.0, 9.0)}) == [(5.0, 9.0), 4.0]
    handle = sess.partial_run_setup([width], [interval])
    assert sess.partial_run(handle, width, {interval: (1.0, 4.0)}) == 3.0


# ---- feeding


def test_any_tensor_can_be_fed():
    a = tf.constant([1.0, 2.0], name="a")
    b = a * 10.0
    c = tf.reduce_sum(b, name="c")
    v = tf.Variable(3.0, name="v")
    sess = tf.Session()
    sess.run(v.initializer)
    for _ in range(3):
        assert sess.run(c) == 30.0
        assert sess.run(c, {b: [1, 1]}) == 2.0
        assert sess.run(c, {"a:0": [5.0, 5.0]}) == 100.0
        assert sess.run([c, a], {c: 7.0})[0] == 7.0
        assert sess.run(c + v, {v: 1.0}) == 31.0
        assert sess.run(v) == 3.0
        assert sess.run(c, {(a, (v,)): (np.ones(2), (0.0,))}) == 20.0
        assert sess.run(c, {b: np.array([1, 2], np.int64)}) == 3.0
    assert c.eval({a: [0, 0]}, session=sess) == 0.0


def test_feeds_that_do_not_fit_are_refused():
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    n = tf.placeholder(tf.int32, [], name="n")
    s = tf.placeholder(tf.string, name="s")
    sess = tf.Session()
    for feed, kind, words in [
        (
            {x: np.ones(2)},
            ValueError,
            r"Cannot feed value of shape \(2,\) for Tensor 'x:0'.*\(\?, 2\)",
        ),
        ({x: [["a", "b"]]}, ValueError, "could not convert string"),
        ({x: tf.ones([1, 2])}, TypeError, "cannot be a tf.Tensor object"),
        ({n: 1 << 40}, TypeError, "larger type"),
        ({n: 1.5}, None, None),
        ({s: 1}, TypeError, "Type of feed value 1 with type <class 'int'> is not"),
        ({"nothing:0": 1}, TypeError, "Cannot interpret feed_dict key as Tensor.*does not exist"),
        ({3: 1}, TypeError, "Can not convert a int into a Tensor"),
        ([1], TypeError, "feed_dict must be a dictionary"),
    ]:
        if kind is None:
            assert sess.run(n, feed) == 1
            continue
        with pytest.raises(kind, match="(?s)" + words) as caught:
            sess.run([x, n, s] if isinstance(feed, list) else next(iter(feed)), feed)
        if words.startswith("Cannot feed"):
            assert "test_session.py" in str(caught.value)
    graph = tf.get_default_graph()
    constant = tf.constant(1.0)
    graph.prevent_feeding(constant)
    graph.prevent_fetching(constant.op)
    with pytest.raises(ValueError, match="may not be fed"):
        sess.run(x, {constant: 1.0})
    with pytest.raises(ValueError, match="not fetchable"):
        sess.run(constant)


def test_a_step_takes_feeds_of_other_shapes_and_types():
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.reduce_sum(x * 2.0)
    sess = tf.Session()
    for size in (3, 3, 3, 5, 5, 0, 3):
        assert sess.run(y, {x: np.arange(size)}) == size * (size - 1)
        assert sess.run(y, {x: list(range(size))}) == size * (size - 1)
    assert sess.run(y, {x: sess.run(x, {x: [4]})}) == 8.0


# ---- callables


def test_callables():
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    sess = tf.Session()
    add = sess.make_callable(x + y, [x, y])
    assert [add(1.0, i) for i in range(4)] == [1.0, 2.0, 3.0, 4.0]
    assert sess.make_callable({"z": x * 2.0, "op": x.op}, [x.name])(3.0) == {"z": 6.0, "op": None}
    assert sess.make_callable([])() == []
    with pytest.raises(TypeError, match="takes 2 values"):
        add(1.0)
    with pytest.raises(TypeError, match="must be a list"):
        sess.make_callable(x, x)
    with pytest.raises(TypeError, match="accept_options"):
        add(1.0, 2.0, options=tf.RunOptions())
    metadata = tf.RunMetadata()
    traced = sess.make_callable(x + y, [x, y], accept_options=True)
    assert (
        traced(
            1, 2, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata
        )
        == 3.0
    )
    assert metadata.step_stats.dev_stats
    sess.close()
    with pytest.raises(RuntimeError, match="closed Session"):
        add(1.0, 2.0)


# ---- the life of a session


def test_default_sessions_and_graphs():
    assert tf.get_default_session() is None
    graph = tf.Graph()
    with tf.Session(graph=graph) as sess:
        assert tf.get_default_session() is sess and tf.get_default_graph() is graph
        c = tf.constant(5.0)
        assert c.eval() == 5.0
        with tf.Session() as inner:
            assert inner.graph is graph and tf.get_default_session() is inner
        assert tf.get_default_session() is sess
    assert tf.get_default_session() is None and tf.get_default_graph() is not graph
    with pytest.raises(RuntimeError, match="closed Session"):
        sess.run(c)
    with pytest.raises(RuntimeError, match="closed Session"), sess:
        pass
    with pytest.raises(ValueError, match="No default session"):
        c.eval()
    with pytest.raises(RuntimeError, match="not re-entrant"), tf.Session() as again, again:
        pass
    assert tf.get_default_session() is None
    sess = tf.Session(graph=graph)
    with sess.as_default(), sess.as_default():
        assert c.eval() == 5.0
        assert tf.get_default_graph() is not graph  # as_default leaves the graph alone
    assert sess.run(c) == 5.0
    with pytest.raises(ValueError, match="graph is different"), sess.as_default():
        tf.constant(1.0).eval()


def test_sessions_left_out_of_order():
    outer, inner = tf.Session().as_default(), tf.Session().as_default()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(AssertionError, match="Nesting violated"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert tf.get_default_session() is None


def test_interactive_sessions():
    graph = tf.Graph()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sess = tf.InteractiveSession(graph=graph)
        assert tf.get_default_graph() is graph
        assert tf.constant(3.0).eval() == 3.0
        assert not caught
        second = tf.InteractiveSession()
        assert "interactive session is already active" in str(caught[0].message)
        with tf.Session() as plain:  # an interactive session inside it may stay open
            third = tf.InteractiveSession()
            assert tf.get_default_session() is third
        assert tf.get_default_session() is third and plain._closed
    sess.close()  # in any order, and twice
    sess.close()
    third.close()
    second.close()
    assert tf.get_default_session() is None and tf.get_default_graph() is not graph


def test_what_a_session_refuses():
    for arguments, kind, words in [
        (dict(target=37), TypeError, "target must be a string"),
        (dict(config=37), TypeError, "config must be a tf.ConfigProto"),
        (dict(graph=37), TypeError, "graph must be a tf.Graph"),
        (dict(target="elsewhere"), tf.errors.NotFoundError, "No session factory registered"),
        (dict(target="grpc://localhost:1"), tf.errors.UnimplementedError, "grpc://localhost:1"),
    ]:
        with pytest.raises(kind, match=words):
            tf.Session(**arguments)
    with pytest.raises(RuntimeError, match="graph is empty"):
        tf.Session(graph=tf.Graph()).run([])
    sess = tf.Session()
    tf.constant(1.0, name="loss")
    for fetch, kind, words in [
        (None, TypeError, "forget to return"),
        (3.0, TypeError, "Can not convert a float"),
        ("los:0", ValueError, "nearest names are 'loss'"),
        ("loss:1", ValueError, "only has 1 outputs"),
        (tf.Graph(), TypeError, "Can not convert a Graph"),
    ]:
        with pytest.raises(kind, match=words):
            sess.run([fetch])


def test_each_session_has_its_own_variables():
    v = tf.Variable(0.0)
    up = v.assign_add(1.0)
    first, second = tf.Session(), tf.Session()
    for sess in (first, second):
        sess.run(v.initializer)
    for _ in range(5):
        first.run(up)
    assert (first.run(v), second.run(v)) == (5.0, 0.0)
    tf.Session.reset("")
    first.close()
    assert second.run(up) == 1.0
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value Variable"):
        tf.Session().run(v)


def test_the_graph_of_a_session():
    config = tf.ConfigProto()
    config.graph_options.infer_shapes = True
    sess, shaped = tf.Session(), tf.Session(config=config)
    assert sess.sess_str == "" and len(sess.graph_def.node) == 0
    tf.constant([1, 2])
    assert "_output_shapes" not in sess.graph_def.node[0].attr
    assert shaped.graph_def.node[0].attr["_output_shapes"].list.shape[0].dim[0].size == 2


# ---- threads


def in_threads(count, work):
    """Runs work(number) in `count` threads at once; raises what one of them raised."""
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(old)
    if failures:
        raise failures[0]


def test_threads_share_a_session():
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(0.0)
    total, up = tf.reduce_sum(x) + 0.0 * v, v.assign_add(1.0)
    sess = tf.Session()
    sess.run(v.initializer)

    def work(number):
        for i in range(25):
            size = (number + i) % 4 + 1
            assert sess.run(total, {x: np.full(size, number)}) == size * number
            sess.run(up)
            assert sess.run([total, v], {x: [1.0]})[0] == 1.0

    in_threads(6, work)
    assert sess.run(v) == 150.0


def test_threads_run_while_others_build():
    graph = tf.get_default_graph()
    x = tf.placeholder(tf.float32, [])
    y = x * 2.0
    sess = tf.Session()

    def work(number):
        with graph.as_default():
            for i in range(8):
                if number % 2:
                    z = tf.cond(x > 0.0, lambda: y + 1.0, lambda: y - 1.0)
                    graph.as_graph_def()
                    assert sess.run(z, {x: i}) == (2 * i + 1 if i else -1)
                else:
                    assert sess.run(y, {x: i}) == 2 * i

    in_threads(4, work)
    names = [op.name for op in graph.get_operations()]
    assert len(set(names)) == len(names)


def test_close_while_others_run():
    v = tf.Variable(0.0)
    up = v.assign_add(1.0)
    sess = tf.Session()
    sess.run(v.initializer)
    started = threading.Event()

    def work(number):
        if number == 0:
            started.wait(10)
            sess.close()
            return
        with pytest.raises((RuntimeError, tf.errors.CancelledError), match="closed"):
            for _ in range(100000):
                sess.run(up)
                started.set()

    in_threads(4, work)


# ---- errors


def frames_of(error):
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


def test_tracebacks_of_runs_are_short():
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.matmul(x, tf.ones([4, 3]))
    z = tf.py_func(lambda v: 1 / 0, [x], tf.float32)
    sess = tf.Session()
    call = sess.make_callable(y, [x])
    for run in (
        lambda: sess.run(y, {x: np.ones([2, 5])}),
        lambda: y.eval({x: np.ones([2, 5])}, session=sess),
        lambda: call(np.ones([2, 5])),
    ):
        for _ in range(3):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"MatMul op 'MatMul'.*\n  defined at .*test_s"
            ) as caught:
                run()
            files = frames_of(caught.value)
            assert len(files) <= 4 and files[-1].endswith("session/session.py")
            text = "".join(traceback.format_exception(caught.value))
            assert (
                "jax" not in text and "During handling" not in text and "direct cause" not in text
            )
    with pytest.raises(tf.errors.UnknownError, match="ZeroDivisionError") as caught:
        sess.run(z, {x: [[1.0]]})
    assert [f.endswith("test_session.py") for f in frames_of(caught.value.__cause__)] == [True]
    with pytest.raises(ValueError) as caught:
        sess.run("nothing:0")
    assert len(frames_of(caught.value)) == 2


# ---- memory


def test_a_closed_session_lets_go_of_its_graph():
    import weakref

    with tf.Graph().as_default() as graph, tf.Session() as sess:
        v = tf.Variable(tf.ones([10]))
        sess.run(v.initializer)
        sess.run([v, v.assign_add(tf.ones([10]))])
    gone = weakref.ref(graph)
    del graph, sess, v
    gc.collect()
    assert gone() is None


def test_errors_of_xla_become_those_of_tensorflow(monkeypatch):
    x = tf.placeholder(tf.float32, [2])
    y = x * 2.0
    sess = tf.Session()

    def fail(values):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    sess.run(y, {x: [1, 2]})
    step = next(p.step for p in sess._prepared.values())
    monkeypatch.setattr(step, "_compiled", fail)
    with pytest.raises(
        tf.errors.ResourceExhaustedError, match=r"^Out of memory allocating 99 bytes\.$"
    ):
        sess.run(y, {x: [1, 2]})

    def broken(values):
        return {}["a mistake of ours"]

    monkeypatch.setattr(step, "_compiled", broken)
    with pytest.raises(KeyError) as caught:
        sess.run(y, {x: [1, 2]})
    assert (
        traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"
    )  # every frame is there


def test_a_variable_may_be_fed_by_its_own_tensor():
    v = tf.get_variable("v", initializer=np.ones([3, 3], np.float32))
    total = tf.reduce_sum(tf.matmul(v, v))
    with tf.Session() as sess:
        sess.run(v.initializer)
        for _ in range(3):  # interpreted, then compiled
            assert sess.run(total, {v.name: np.full([3, 3], 2.0)}) == 108.0
            assert sess.run(total) == 27.0


def test_a_graph_is_exported_while_others_build():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # threads take turns in the middle of everything
    graph = tf.Graph()

    def build(number):
        with graph.as_default():
            build_and_export()

    def build_and_export():
        for _ in range(3):
            x = tf.placeholder(tf.float32, [])
            ends = tf.while_loop(lambda a, _: a < 10.0, lambda a, b: (a + 1.0, a * b), [x, x])
            branch = tf.cond(x > 0.0, lambda: tf.exp(tf.sin(x)), lambda: x)  # noqa: B023
            tf.gradients([*ends, branch], x)
            nodes = graph.as_graph_def().node
            names = {node.name for node in nodes}
            for node in nodes:
                missing = {i.lstrip("^").partition(":")[0] for i in node.input} - names
                assert not missing, f"{node.name} takes {missing}, which are not there"

    try:
        in_threads(3, build)
    finally:
        sys.setswitchinterval(before)


def test_names_of_operations_may_be_bytes():
    named = tf.constant(44.0, name=b"e")
    assert named.name == "e:0" and tf.square(named, name=b"e").name == "e_1:0"
    with tf.Session() as sess:
        assert sess.run(b"e:0") == 44.0


def test_a_sparse_placeholder_of_known_shape_is_fed_without_it():
    sparse = tf.sparse_placeholder(tf.float32, shape=np.array([7, 9, 2]))
    indices, values = np.array([[3, 2, 0], [4, 5, 1]]), np.array([1.0, 2.0], np.float32)
    parts = [tf.identity(t) for t in (sparse.indices, sparse.values, sparse.dense_shape)]
    with tf.Session() as sess:
        got = sess.run(parts, {sparse: (indices, values)})
    for a, b in zip(got, [indices, values, [7, 9, 2]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_constants_and_a_no_op_make_a_step():
    fetches = [tf.constant(42.0), tf.no_op(), tf.constant(1.0) + tf.constant(2.0)]
    with tf.Session() as sess:
        call = sess.make_callable(fetches)
        for _ in range(4):
            assert call() == [42.0, None, 3.0]
