"""Iterators of all four kinds, their life in a session, and the threads behind them."""

import gc
import threading
import time

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements

Dataset = tf.data.Dataset


def threads():
    return [t for t in threading.enumerate() if t.name == "headrace-data"]


def wait_for_no_threads():
    end = time.monotonic() + 10
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    return threads()


def test_an_iterator_begins_anew_when_it_is_initialized():
    size = tf.placeholder(tf.int64, [])
    iterator = Dataset.range(size).make_initializable_iterator()
    element = iterator.get_next()
    with tf.Session() as session:
        with pytest.raises(tf.errors.FailedPreconditionError, match="has not been initialized"):
            session.run(element)
        for n in (2, 3):
            session.run(iterator.initializer, {size: n})
            assert [int(session.run(element)) for _ in range(n)] == list(range(n))
            for _ in range(2):
                with pytest.raises(tf.errors.OutOfRangeError, match="End of sequence"):
                    session.run(element)


def test_sessions_have_iterators_of_their_own():
    element = Dataset.range(3).make_one_shot_iterator().get_next()
    with tf.Session() as a, tf.Session() as b:
        assert [int(s.run(element)) for s in (a, a, b, a, b)] == [0, 1, 0, 2, 1]


def test_one_structure_for_several_datasets():
    iterator = tf.data.Iterator.from_structure(tf.int64, [])
    element = iterator.get_next()
    first = iterator.make_initializer(Dataset.range(2))
    second = iterator.make_initializer(Dataset.range(10, 12))
    with tf.Session() as session:
        for initializer, expected in ((first, [0, 1]), (second, [10, 11]), (first, [0, 1])):
            session.run(initializer)
            assert [int(session.run(element)) for _ in range(2)] == expected
    with pytest.raises(ValueError, match="does not have an initializer"):
        iterator.initializer  # noqa: B018
    with pytest.raises(TypeError, match="output types"):
        iterator.make_initializer(Dataset.from_tensors(1.0))
    with pytest.raises(TypeError, match="output shapes"):
        iterator.make_initializer(Dataset.range(4).batch(2))
    with pytest.raises(ValueError, match="same nested structure"):
        iterator.make_initializer(Dataset.from_tensors((1, 2)))


def test_the_iterator_may_be_fed():
    first = Dataset.range(5).make_one_shot_iterator()
    second = Dataset.range(5, 9).make_initializable_iterator()
    handle = tf.placeholder(tf.string, [])
    iterator = tf.data.Iterator.from_string_handle(handle, tf.int64, [])
    element = iterator.get_next() * 2
    with tf.Session() as session:
        session.run(second.initializer)
        a, b = session.run([first.string_handle(), second.string_handle()])
        assert [int(session.run(element, {handle: h})) for h in (a, b, a, b)] == [0, 10, 2, 12]
        with pytest.raises(tf.errors.InvalidArgumentError, match="valid ResourceHandle"):
            session.run(element, {handle: b"nothing"})
        wrong = tf.data.Iterator.from_string_handle(handle, tf.float32, []).get_next()
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected float32 but got int64"):
            session.run(wrong, {handle: a})
    with tf.Session() as other, pytest.raises(tf.errors.NotFoundError, match="does not exist"):
        other.run(element, {handle: a})


def test_several_get_next_of_one_run_take_several_elements():
    iterator = Dataset.range(6).make_one_shot_iterator()
    both = [iterator.get_next(), iterator.get_next()]
    with tf.Session() as session:
        found = [sorted(map(int, session.run(both))) for _ in range(3)]
        assert found == [[0, 1], [2, 3], [4, 5]]
    assert iterator.output_types == tf.int64 and iterator.output_classes is tf.Tensor
    assert iterator.output_shapes.as_list() == [] == iterator.element_spec.shape.as_list()


def test_a_training_step_reads_its_batch():
    x = np.random.RandomState(0).randn(64, 3).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [3.0]], np.float32)
    dataset = Dataset.from_tensor_slices((x, y)).shuffle(64, seed=1).repeat().batch(16).prefetch(2)
    features, targets = dataset.make_one_shot_iterator().get_next()
    w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.square(tf.matmul(features, w) - targets))
    train = tf.train.GradientDescentOptimizer(0.2).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(60):
            session.run(train)
        np.testing.assert_allclose(session.run(w)[:, 0], [1, -2, 3], atol=1e-3)
        assert threads()
    assert not wait_for_no_threads()


def test_threads_end_with_their_session_or_iterator():
    pipelines = [
        Dataset.range(100).repeat().prefetch(5),
        Dataset.range(100)
        .repeat()
        .map(lambda x: tf.py_func(lambda v: v, [x], tf.int64), num_parallel_calls=3)
        .prefetch(2),
    ]
    for pipeline in pipelines:
        iterator = pipeline.make_initializable_iterator()
        element = iterator.get_next()
        session = tf.Session()
        for _ in range(3):  # beginning anew ends the threads of the time before
            session.run(iterator.initializer)
            assert session.run(element) is not None
        assert 0 < len(threads())
        session.close()
        assert not wait_for_no_threads()
        session = tf.Session()
        session.run(iterator.initializer)
        session.run(element)
        del session  # nobody closes it
        gc.collect()
        assert not wait_for_no_threads()


def test_threads_end_with_the_iteration_they_work_for():
    dataset = Dataset.range(9).map(lambda x: tf.py_func(lambda v: v, [x], tf.int64), 3).prefetch(2)
    dataset = dataset.take(2).repeat().prefetch(1)
    iterator = dataset.make_initializable_iterator()
    element = iterator.get_next()
    with tf.Session() as session:
        session.run(iterator.initializer)
        for _ in range(40):
            session.run(element)
        time.sleep(0.1)
        assert len(threads()) < 20  # of 20 iterations, with four threads each
    assert not wait_for_no_threads()


def test_closing_the_session_wakes_up_who_waits():
    begun, go = threading.Event(), threading.Event()

    def wait(x):
        begun.set()
        go.wait(20)
        return x

    dataset = Dataset.range(3).map(lambda x: tf.py_func(wait, [x], tf.int64)).prefetch(1)
    iterator = dataset.make_initializable_iterator()
    element = iterator.get_next()
    session = tf.Session()
    session.run(iterator.initializer)
    raised = []

    def run():
        try:
            session.run(element)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    session.close()
    thread.join(20)
    go.set()
    assert not thread.is_alive() and isinstance(raised[0], tf.errors.CancelledError)


def test_calls_run_side_by_side_and_keep_their_order():
    barrier = threading.Barrier(4)

    def meet(x):
        barrier.wait(20)  # four calls have to be under way at once
        time.sleep(0.002 * (4 - x % 4))
        return x

    dataset = Dataset.range(16).map(lambda x: tf.py_func(meet, [x], tf.int64), 4)
    assert [int(x) for x in elements(dataset, one_shot=False)] == list(range(16))


def test_what_is_ready_first_may_come_first():
    others_came = threading.Event()

    def wait_for_others(x):
        assert x or others_came.wait(20)
        return x

    options = tf.data.Options()
    options.experimental_deterministic = False
    dataset = Dataset.range(3).map(lambda x: tf.py_func(wait_for_others, [x], tf.int64), 2)
    iterator = dataset.with_options(options).make_initializable_iterator()
    element = iterator.get_next()
    with tf.Session() as session:
        session.run(iterator.initializer)
        found = [int(session.run(element)) for _ in range(2)]
        others_came.set()
        assert [*found, int(session.run(element))] == [1, 2, 0]


def test_an_error_ahead_comes_in_its_place():
    element = Dataset.range(5).map(lambda x: 6 // (x - 2), 3).prefetch(4)
    element = element.make_one_shot_iterator().get_next()
    with tf.Session() as session:
        assert [int(session.run(element)) for _ in range(2)] == [-3, -6]
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(element)
        assert [int(session.run(element)) for _ in range(2)] == [6, 3]
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(element)


def test_a_graph_with_a_pipeline_is_exported_and_imported():
    dataset = Dataset.from_tensor_slices(np.arange(6)).shuffle(4, seed=2)
    dataset = dataset.flat_map(lambda x: Dataset.range(x).map(lambda y: y * x)).batch(2)
    expected = [v.tolist() for v in elements(dataset)]
    initializable = dataset.make_initializable_iterator()
    names = [elements_of.op.name for elements_of in (initializable.get_next(),)]
    graph_def = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default(), tf.Session() as session:
        one_shot, initializer, element = tf.import_graph_def(
            graph_def, return_elements=["IteratorGetNext:0", "MakeIterator", f"{names[0]}:0"]
        )
        found = []
        with pytest.raises(tf.errors.OutOfRangeError):
            while True:
                found.append(session.run(one_shot).tolist())
        session.run(initializer)
        assert found == expected and session.run(element).tolist() == expected[0]


def test_the_nodes_are_named_as_in_tensorflow():
    dataset = Dataset.from_tensor_slices([1, 2]).shuffle(2, seed=3).map(lambda x: x + 1).batch(2)
    dataset.repeat().prefetch(1).make_initializable_iterator().get_next()
    graph = tf.get_default_graph()
    names = [op.name for op in graph.get_operations() if op.type != "Const"]
    assert (
        names
        == (
            "TensorSliceDataset seed2/Equal seed2/Equal_1 seed2/LogicalAnd seed2 ShuffleDataset MapDataset BatchDatasetV2 "
            "RepeatDataset PrefetchDataset OptimizeDataset ModelDataset IteratorV2 MakeIterator IteratorToStringHandle "
            "IteratorGetNext"
        ).split()
    )
    (function,) = graph.as_graph_def().library.function
    assert function.signature.name.startswith("__inference_Dataset_map_<lambda>_")
    assert [a.name for a in function.signature.input_arg] == ["args_0"]
