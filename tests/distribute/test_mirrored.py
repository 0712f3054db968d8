"""MirroredStrategy on CPU devices: the numbers of TensorFlow 1.15, and the rules of where what may be called."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.train.moving_averages import assign_moving_average
from tests.distribute import programs

NUMBERS = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "distribute" / "mirrored.json").read_text()
)
SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


def same(found, wanted, place=""):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same(found[key], wanted[key], f"{place}/{key}")
    elif isinstance(wanted, list) and any(isinstance(w, (list, dict)) for w in wanted):
        assert len(found) == len(wanted), place
        for i, pair in enumerate(zip(found, wanted, strict=True)):
            same(*pair, f"{place}/{i}")
    else:
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6, err_msg=place)


@pytest.mark.parametrize("case", sorted(NUMBERS))
def test_as_tensorflow(case):
    name, _, count = case.partition("/")
    found = programs.run(tf, programs.PROGRAMS[name], int(count))
    same(found, NUMBERS[case], case)
    if not name.startswith("on_read"):
        for copies in found["variables"].values():
            assert all(copy == copies[0] for copy in copies), "the copies differ"


def two(**arguments):
    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"], **arguments)


def session():
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": 4}))


def replica_number():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.cast(replica, tf.float32)


def test_where_the_program_stands():
    strategy, seen = two(), []

    def look():
        here = tf.distribute
        context = here.get_replica_context()
        return (
            here.get_strategy() is strategy,
            here.has_strategy(),
            here.in_cross_replica_context(),
            None if context is None else context.num_replicas_in_sync,
        )

    def replica():
        seen.append(look())
        tf.distribute.get_replica_context().merge_call(
            lambda s: seen.append((s is strategy, look()))
        )
        seen.append(tf.distribute.get_replica_context().devices)

    outside = (False, False, False, 1)
    assert look() == outside and tf.distribute.get_strategy().num_replicas_in_sync == 1
    with strategy.scope() as entered:
        assert entered is strategy and look() == (True, True, True, None)
        with strategy.scope():
            strategy.experimental_run_v2(replica)
        with tf.Graph().as_default():
            assert look() == outside
        with pytest.raises(RuntimeError, match="Mixing different"), two().scope():
            pass
    inside, name = (True, True, False, 2), "/replica:0/task:0/device:CPU:{}"
    assert seen[:3] == [inside, inside, (True, (True, True, True, None))]
    assert seen[3:] == [(name.format(0),), (name.format(1),)]
    assert look() == outside and strategy.extended.worker_devices == (
        name.format(0),
        name.format(1),
    )
    tf.distribute.experimental_set_strategy(strategy)
    assert look()[0]
    tf.distribute.experimental_set_strategy(None)
    assert look() == outside
    assert tf.distribute.get_replica_context().merge_call(lambda s, x: x + 1, args=(1,)) == 2


def test_variables_are_made_once_and_the_same_everywhere():
    strategy = two()

    def replica():
        first, second = tf.Variable(tf.random_uniform([3])), tf.Variable(2.0, name="named")
        third = tf.get_variable("got", [2], initializer=tf.random_normal_initializer())
        assert all(v.device.endswith(f"CPU:{v.get()._handle.device[-1]}") for v in (first, second))
        return first, second, third

    with strategy.scope():
        made = strategy.experimental_run_v2(replica)
        again = tf.Variable(1.0, trainable=False)
    assert tf.global_variables() == [*made, again] and tf.trainable_variables() == list(made)
    assert [v.name for v in made] == ["Variable:0", "named:0", "got:0"]
    assert [c.name for c in made[1].values] == ["named:0", "named/replica_1:0"]
    assert [c.device[-1] for c in made[1].values] == ["0", "1"]
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        for variable in made:
            one, other = sess.run(strategy.experimental_local_results(variable))
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(sess.run(variable), one)
        assert sess.run(again + 1) == 2 and sess.run(tf.report_uninitialized_variables()).size == 0
    with strategy.scope():
        with pytest.raises(ValueError, match="not available outside the replica context"):
            _ = made[0].handle
        with pytest.raises(ValueError, match="`NONE` variable synchronization"):
            tf.Variable(1.0, synchronization=tf.VariableSynchronization.NONE)


def test_assignments_need_an_aggregation():
    strategy = two()
    with strategy.scope():
        plain = tf.Variable(1.0)
        summed = tf.Variable(1.0, aggregation=tf.VariableAggregation.SUM)
        across = plain.assign(5.0)
        with pytest.raises(ValueError, match="You must specify an aggregation method"):
            strategy.experimental_run_v2(lambda: plain.assign_add(1.0))
        with pytest.raises(ValueError, match="cannot be reduced with the given reduce op"):
            strategy.experimental_run_v2(lambda: summed.assign_add(1.0))
        counted = tf.Variable(
            4.0,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        assert not counted.trainable
        with pytest.raises(ValueError, match="does not support `assign_add`"):
            counted.assign_add(1.0)
        halved, whole = counted.assign(6.0), strategy.extended.read_var(counted)
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(whole) == 8 and sess.run(across) == 5
        assert sess.run(plain.values) == (5, 5)
        sess.run(halved)
        assert sess.run(whole) == 6 and sess.run(counted.values) == (3, 3)


def test_a_training_step_gives_the_global_step():
    strategy = two()
    with strategy.scope():
        step = tf.train.get_or_create_global_step()

        def replica():
            w = tf.get_variable("w", [], initializer=tf.ones_initializer())
            optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
            with pytest.raises(ValueError, match="No gradients provided"):
                optimizer.apply_gradients([(None, w)])
            pairs = optimizer.compute_gradients(w * (replica_number() + 1.0))
            return optimizer.apply_gradients(pairs, global_step=step)

        train = strategy.experimental_run_v2(replica)
    (w,) = tf.trainable_variables()
    assert len(tf.get_collection("train_op")) == 1
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(strategy.experimental_local_results(train)) == (1, 1)
        # One of the copies is enough to run the whole step.
        assert sess.run(strategy.experimental_local_results(train)[1]) == 2
        assert sess.run(step) == 2 and sess.run(w.values) == pytest.approx(2 * [1 - 0.3 - 0.57])
        assert [v.name for v in tf.global_variables() if "Momentum" in v.name] == ["w/Momentum:0"]


def test_errors_of_a_replica_reach_the_caller():
    strategy = two()

    def uneven():
        context = tf.distribute.get_replica_context()
        if context.index == 0:
            context.merge_call(lambda s: None)

    def failing():
        tf.distribute.get_replica_context().merge_call(lambda s: 1 / 0)

    def late():
        if tf.distribute.get_replica_context().index == 1:
            raise KeyError("second")

    with strategy.scope():
        with pytest.raises(RuntimeError, match="different number of"):
            strategy.experimental_run_v2(uneven)
        with pytest.raises(ZeroDivisionError):
            strategy.experimental_run_v2(failing)
        with pytest.raises(KeyError, match="second"):
            strategy.experimental_run_v2(late)
        with pytest.raises(RuntimeError, match="works in a replica"):
            v = tf.Variable(1.0)
            tf.train.GradientDescentOptimizer(1.0).apply_gradients([(tf.constant(1.0), v)])
    with pytest.raises(ValueError, match="No duplicates"):
        tf.distribute.MirroredStrategy(["/cpu:0", "/device:CPU:0"])


def test_a_mean_counts_elements_and_not_replicas():
    strategy = two()
    with strategy.scope():
        # Three elements in one replica and one in the other.
        parts = strategy.experimental_run_v2(lambda: tf.range(3.0 - 2.0 * replica_number()) + 1.0)
        mean = strategy.reduce(MEAN, parts, axis=0)
        known = strategy.experimental_run_v2(lambda: tf.constant([1.0, 2.0]) + replica_number())
        even = strategy.reduce("mean", known, axis=-1)
        with pytest.raises(ValueError, match="out of range"):
            strategy.reduce(MEAN, known, axis=1)
        with pytest.raises(TypeError, match="ReduceOp"):
            strategy.reduce(3, known)
    with session() as sess:
        assert sess.run([mean, even]) == [pytest.approx(7 / 4), 2.0]


def test_a_checkpoint_holds_one_value(tmp_path):
    strategy = two()
    with strategy.scope():
        w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
        count = tf.get_variable(
            "count",
            [],
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
            initializer=tf.constant_initializer(3.0),
        )
        saver = tf.train.Saver()
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(w.assign([2.0, 4.0]))
        prefix = saver.save(sess, str(tmp_path / "model"))
        sess.run(tf.global_variables_initializer())
        saver.restore(sess, prefix)
        np.testing.assert_array_equal(sess.run(w.values), [[2, 4]] * 2)
        assert sess.run(count.values) == (3, 3)
    assert tf.train.list_variables(prefix) == [("count", []), ("w", [2])]
    with tf.Graph().as_default(), tf.Session() as sess:
        w, count = tf.get_variable("w", [2]), tf.get_variable("count", [])
        tf.train.Saver().restore(sess, prefix)
        assert sess.run([w, count])[0].tolist() == [2, 4] and sess.run(count) == 6


def test_inputs_summaries_and_moving_averages():
    strategy, contexts = two(), []

    def inputs(context):
        contexts.append(context)
        numbers = iter((1.0, 5.0))
        return lambda: (tf.constant(next(numbers)), tf.constant(2.0))

    def replica(element):
        x, two = element
        tf.summary.scalar("x", x * two)
        return (
            assign_moving_average(average, x, 0.75, zero_debias=False),
            assign_moving_average(corrected, x, 0.75),
        )

    with strategy.scope():
        average = tf.Variable(0.0, trainable=False)
        corrected = tf.Variable(0.0, trainable=False)
        iterator = strategy.make_input_fn_iterator(inputs)
        assert iterator.initialize() == []
        moved = [strategy.group(m) for m in strategy.experimental_run(replica, iterator)]
        other = tf.Variable(8.0)
        averages = tf.train.ExponentialMovingAverage(0.5)
        kept = averages.apply([other])
        changed = other.assign(4.0)
    assert contexts[0].num_replicas_in_sync == 2 and contexts[0].get_per_replica_batch_size(6) == 3
    assert len(tf.get_collection("summaries")) == 1
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([moved, changed])
        sess.run(kept)
        assert sess.run(average.values) == (0.75, 0.75)  # a quarter of the mean of 1 and 5
        assert sess.run(corrected.values) == (3, 3)
        assert sess.run(averages.average(other).values) == (6, 6)


@pytest.mark.parametrize(
    "way", ["NcclAllReduce", "HierarchicalCopyAllReduce", "ReductionToOneDevice"]
)
def test_ways_to_reduce(way):
    strategy = two(cross_device_ops=getattr(tf.distribute, way)())
    with strategy.scope():
        shares = strategy.experimental_run_v2(
            lambda: tf.distribute.get_replica_context().all_reduce(SUM, replica_number() + 1.0)
        )
    with session() as sess:
        assert sess.run(strategy.experimental_local_results(shares)) == (3, 3)


def test_one_device_and_the_names_of_contrib():
    names, contrib = tf.distribute, tf.contrib.distribute
    assert contrib.DistributionStrategy is names.Strategy
    assert contrib.OneDeviceStrategy is names.OneDeviceStrategy
    assert contrib.get_distribution_strategy is names.get_strategy
    mirrored = contrib.MirroredStrategy(["/cpu:0", "/cpu:1", "/cpu:2"])
    assert isinstance(mirrored, names.MirroredStrategy) and mirrored.num_replicas_in_sync == 3
    with pytest.raises(ValueError, match="both"):
        contrib.MirroredStrategy(num_gpus=1, num_gpus_per_worker=1)
    assert names.MirroredStrategy().extended.worker_devices[0][-2:] == ":0"
    assert mirrored.update_config_proto(tf.ConfigProto()).isolate_session_state

    strategy = names.OneDeviceStrategy("/cpu:1")
    with strategy.scope():
        step = tf.train.get_or_create_global_step()
        v = tf.Variable(2.0)

        def replica(scale):
            loss = scale * v * v
            optimizer = tf.train.AdamOptimizer(0.5)
            return optimizer.minimize(loss, global_step=step), loss

        train, loss = strategy.experimental_run_v2(replica, args=(3.0,))
        total = strategy.reduce(SUM, loss)
        assert v.device[-1] == "1" and strategy.extended.variable_created_in_scope(v)
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(total) == 12
        sess.run(strategy.group(train))
        assert sess.run([v, step]) == [pytest.approx(1.5), 1]
