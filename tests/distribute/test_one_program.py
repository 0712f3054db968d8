"""Replicas as one program: it is one, with XLA's collectives, and trains as one device does and as replicas one by one do.

HEADRACE_STRESS_STEPS=10000 in the environment makes a hundred random programs.
"""

import os
import threading

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.lowering.compilations import compilations
from headrace.runtime.device_step import DeviceStep
from headrace.runtime.region import Region
from tests.distribute import random_replicas, replicated

FULL = int(os.environ.get("HEADRACE_STRESS_STEPS", "0")) // 100
SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


def session(count=4):
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": count}))


def mirrored(count=2, **arguments):
    return tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(count)], **arguments)


def regions(sess):
    steps = {id(p.step): p.step for p in sess._prepared.values()}.values()
    return [r for s in steps if isinstance(s, DeviceStep) for r in s.regions.values()]


@pytest.fixture
def one_by_one(monkeypatch):
    """A function after which replicas run as programs of their own."""
    return lambda: monkeypatch.setattr(DeviceStep, "_can_join", lambda self, names: False)


@pytest.fixture
def texts(monkeypatch):
    """The compiled text of each program of replicas that is called."""
    found, start = [], Region._start

    def wrapped(self, program, arguments, *rest):
        found.append(program.call.lower(*arguments).compile().as_text())
        return start(self, program, arguments, *rest)

    monkeypatch.setattr(Region, "_start", wrapped)
    return found


def adam(tf):
    return tf.train.AdamOptimizer(0.05)


def adagrad(tf):
    return tf.train.AdagradOptimizer(0.5)


def trained(model, optimizer, count, steps=4, **arguments):
    """The losses, and the variables (copy by copy) by name, after some steps."""
    with tf.Graph().as_default():
        tf.set_random_seed(7)
        train, loss, variables, _ = replicated.build(tf, replicated.MODELS[model], optimizer, count)
        with session(max(count, 4)) as sess:
            sess.run(tf.global_variables_initializer())
            losses = [sess.run([train, loss])[1] for _ in range(steps)]
            copies = {v.op.name: sess.run(list(getattr(v, "values", (v,)))) for v in variables}
            return losses, copies, regions(sess)


@pytest.mark.parametrize("count", [2, 4])
def test_a_step_is_one_program_with_one_all_reduce(count, texts):
    train, loss, _, (x, y) = replicated.build(tf, replicated.dense, adam, count, fed=True)
    fed = {x: replicated.X, y: replicated.Y}
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        before = compilations().count
        for _ in range(3):
            sess.run([train, loss], fed)
        assert compilations().count == before + 1
        (region,) = regions(sess)
        (step,) = {p.step for p in sess._prepared.values() if getattr(p.step, "regions", None)}
        assert len(step.split.segments) == 1 and not step._arrivals
        assert len(region.island._programs) == 1 and len(region.devices) == count
    # The gradients of four variables and the loss: XLA makes one of the five sums over the replicas.
    assert texts[0].count(" all-reduce(") == 1 and f"num_partitions={count}" in texts[0]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "model, optimizer", [("dense", adam), ("embedding", adagrad), ("control_flow", adam)]
)
def test_training_equals_one_device_and_replicas_one_by_one(model, optimizer, count, one_by_one):
    losses, copies, used = trained(model, optimizer, count)
    assert used and all(r._is_program for r in used)
    wanted, alone, _ = trained(model, optimizer, 1)
    one_by_one()
    apart, others, unused = trained(model, optimizer, count)
    assert not unused
    np.testing.assert_allclose(losses, wanted, rtol=2e-5)
    np.testing.assert_allclose(losses, apart, rtol=2e-6)
    assert copies.keys() == alone.keys() == others.keys() and losses[-1] < losses[0]
    for name, own in copies.items():
        assert len(own) == count
        for copy, other in zip(own, others[name], strict=True):
            np.testing.assert_array_equal(copy, own[0])
            np.testing.assert_allclose(copy, alone[name][0], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(copy, other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("count", [2, 4])
def test_what_differs_between_replicas_differs_as_it_did(count, one_by_one):
    losses, copies, used = trained("noisy", adam, count)
    assert used and all(r._is_program for r in used)
    one_by_one()
    apart, others, _ = trained("noisy", adam, count)
    np.testing.assert_allclose(losses, apart, rtol=2e-6)
    assert len(np.unique(copies["average"], axis=0)) == count
    for name, own in copies.items():
        np.testing.assert_allclose(own, others[name], rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("seed", range(FULL or 3))
def test_random_programs_give_what_replicas_one_by_one_give(seed, one_by_one):
    count, found = 2 + seed % 3, []
    for _ in range(2):
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            x, fetches, copies = random_replicas.build(tf, seed, count)
            with session() as sess:
                sess.run(tf.global_variables_initializer())
                values = [
                    (sess.run(fetches, {x: random_replicas.feed(count, i)}), sess.run(copies))
                    for i in range(3)
                ]
                found.append((jax.tree.leaves(values), len(regions(sess))))
        one_by_one()
    (together, programs), (apart, none) = found
    assert programs and not none and len(together) == len(apart)
    for value, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(value, other, rtol=3e-4, atol=1e-5)


def test_what_has_no_counterpart_is_computed_by_all_or_outside():
    strategy = mirrored(2)
    x = tf.placeholder(tf.float32, [4, 2])
    with strategy.scope():
        rate = tf.get_variable("rate", [], initializer=tf.ones_initializer())
        first = tf.Variable([1.0, 2.0], aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        halves = iter(tf.split(x * 2.0, 2))  # on the first device, of what is fed
        inputs = strategy.make_input_fn_iterator(lambda context: lambda: next(halves))
        decay = rate * 0.5  # reads the first copy

        def replica(half):
            context = tf.distribute.get_replica_context()
            total = context.all_reduce(SUM, half)
            number = tf.cast(context.replica_id_in_sync_group, tf.float32)
            noted = tf.py_func(lambda v: v + 1, [total], tf.float32)  # the host's
            noted.set_shape([2, 2])
            assigned = first.assign(half[0] + number)
            return total * decay * number, noted * total, assigned

        scaled, noted, assigned = strategy.experimental_run(replica, inputs)
        shown = [strategy.experimental_local_results(v) for v in (scaled, noted)]
        mean = strategy.reduce(MEAN, scaled, axis=None)
    value = np.arange(8, dtype=np.float32).reshape(4, 2)
    total = 2 * (value[:2] + value[2:])
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            found = sess.run([shown, mean, strategy.group(assigned)], {x: value})
            np.testing.assert_allclose(found[0][0], [total * 0, total * 0.5])
            np.testing.assert_allclose(found[0][1], [total * (total + 1)] * 2)
            np.testing.assert_allclose(found[1], total * 0.25)
            np.testing.assert_allclose(sess.run(first.values), [value[0] * 2] * 2)
        assert {len(r.devices) for r in regions(sess)} == {2}


def test_a_batch_that_does_not_divide_runs_one_by_one(caplog):
    strategy = mirrored(2)
    parts = [tf.placeholder(tf.float32, [None, 3]) for _ in range(2)]
    with strategy.scope():
        w = tf.get_variable("w", [3], initializer=tf.ones_initializer())
        optimizer, left = tf.train.GradientDescentOptimizer(0.5), iter(parts)
        inputs = strategy.make_input_fn_iterator(lambda context: lambda: next(left))
        losses = strategy.experimental_run(
            lambda x: optimizer.minimize(tf.reduce_sum(tf.sin(tf.exp(x * w) + tf.tan(x)))), inputs
        )
        train, reset = strategy.group(losses), w.assign(np.ones(3))
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        even = {p: np.full([2, 3], 0.1) for p in parts}
        odd = {p: np.full([n, 3], 0.1) for p, n in zip(parts, (3, 1), strict=True)}
        values = []
        for number, fed in enumerate(
            (even, even, odd, odd, even)
        ):  # the first of each is interpreted
            sess.run(reset)
            with caplog.at_level("INFO", "headrace"):
                sess.run(train, fed)
            values.append(sess.run(w.values))
            assert ("the shapes [3, 3], [1, 3]" in caplog.text) == (number == 3)
            caplog.clear()
        np.testing.assert_allclose(values, [values[0]] * 5, rtol=1e-6)
        assert regions(sess)


@pytest.mark.parametrize("host", [False, True])
def test_a_failure_in_one_replica_leaves_all_copies_as_they_were(host):
    strategy, limits = mirrored(2), tf.placeholder(tf.float32, [2])
    with strategy.scope():
        w = tf.get_variable("w", [8], initializer=tf.ones_initializer())
        count = tf.get_variable("count", [], tf.int32, initializer=tf.zeros_initializer())
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)

        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            value = tf.sqrt(limits[number])
            if host:
                value = tf.py_func(lambda v: v, [value], tf.float32)
                value.set_shape([])
            value = tf.check_numerics(value, "a root", name="checked")
            return optimizer.minimize(tf.reduce_sum(tf.tan(w) * tf.sin(w) * value))

        train = strategy.group(strategy.experimental_run_v2(replica))
        with tf.control_dependencies([train]):
            counted = count.assign(count.read_value() + 1)
    slot = optimizer.get_slot(w, "momentum")
    state = [*w.values, *count.values, *slot.values]
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(counted, {limits: [1.0, 4.0]})
        before = sess.run(state)
        for bad, name in (([1.0, -1.0], "replica_1/checked"), ([-1.0, 1.0], "checked")):
            with pytest.raises(tf.errors.InvalidArgumentError, match="a root") as caught:
                sess.run(counted, {limits: bad})
            assert caught.value.op.name == name
            for value, old in zip(sess.run(state), before, strict=True):
                np.testing.assert_array_equal(value, old)
        sess.run(counted, {limits: [1.0, 4.0]})
        after = sess.run(state)
        np.testing.assert_array_equal(after[0], after[1])
        assert after[2] == after[3] == 4 and np.all(after[0] != before[0])


def test_steps_of_two_threads_take_turns():
    train, loss, variables, _ = replicated.build(tf, replicated.dense, adam, 4)
    step = next(v for v in variables if v.op.name == "global_step")
    with session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([train, loss])
        failures = []

        def work(fetches):
            try:
                for _ in range(40):
                    sess.run(fetches)
            except BaseException as error:
                failures.append(error)

        wanted = ([train, loss], loss, train)  # three programs
        threads = [threading.Thread(target=work, args=(f,), daemon=True) for f in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a step hangs"
        assert not failures and sess.run(list(step.values)) == [81] * 4


def test_a_checkpoint_is_as_it_was(tmp_path):
    with tf.Graph().as_default():
        train, _, variables, _ = replicated.build(tf, replicated.dense, adam, 2)
        saver = tf.train.Saver()
        with session() as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(3):
                sess.run(train)
            prefix = saver.save(sess, str(tmp_path / "model"))
            wanted = {v.op.name: sess.run(v.values[0]) for v in variables}
    with tf.Graph().as_default():
        train, _, variables, _ = replicated.build(tf, replicated.dense, adam, 1)
        with session() as sess:
            tf.train.Saver().restore(sess, prefix)
            for variable in variables:
                np.testing.assert_array_equal(sess.run(variable), wanted[variable.op.name])


def test_devices_that_share_one_of_jax_run_one_by_one(caplog):
    count = 8  # more than JAX has in the tests
    with caplog.at_level("INFO", "headrace"):
        losses, copies, used = trained("dense", adam, count, steps=2)
    assert not used and "JAX has fewer devices" in caplog.text
    wanted, _, _ = trained("dense", adam, 1, steps=2)
    np.testing.assert_allclose(losses, wanted, rtol=2e-5)
    assert all(np.array_equal(c, own[0]) for own in copies.values() for c in own)
