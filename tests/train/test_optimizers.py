"""Optimizers, moving averages, decays and global steps: TensorFlow's nodes and numbers, and how sparse steps run."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.graph.op_def import PADDED
from tests.train import training_programs as programs

DATA = Path(__file__).parents[1] / "data/optimizers"
GRAPHS = json.loads(gzip.decompress((DATA / "graphs.json.gz").read_bytes()))
VALUES = np.load(DATA / "values.npz")
TOLERANCE = {2: 2e-3, 4: 2e-6, 8: 1e-13}


def steps_of(sess):
    return {id(p.step): p.step for p in sess._prepared.values()}.values()


def run_initialized(fetches):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches)


# ---- against TensorFlow


@pytest.mark.parametrize("build", programs.GRAPHS, ids=lambda b: b.__name__)
def test_nodes_are_tensorflows_in_its_order(build):
    # Branches are nodes of one kind here and of several there.
    mine, theirs = (
        [n for n in nodes if "cond" not in str(n) and not n[0].endswith("IsVariableInitialized")]
        for nodes in (programs.nodes(tf, build), GRAPHS[build.__name__])
    )
    assert len(mine) > 40
    assert mine == theirs


@pytest.mark.parametrize("flavour", programs.FLAVOURS)
def test_three_steps_of_every_optimizer(flavour):
    """Dense gradients and repeated rows: the first step is interpreted, the others are compiled."""
    found = programs.train(tf, flavour)
    keys = [k for k in VALUES.files if k.startswith(f"{flavour}|")]
    assert {f"{flavour}|{n}" for n in found} == set(keys)
    for name, value in found.items():
        expected = VALUES[f"{flavour}|{name}"]
        assert value.dtype == expected.dtype, name
        tolerance = TOLERANCE[expected.dtype.itemsize]
        np.testing.assert_allclose(value, expected, tolerance, tolerance, err_msg=name)


# ---- sparse steps


@pytest.mark.parametrize("name", ["Adagrad", "Momentum", "RMSProp", "Ftrl", "Adam"])
def test_a_sparse_step_is_one_program_whatever_the_number_of_different_rows(name):
    make = getattr(tf.train, f"{name}Optimizer")
    optimizer = make(0.5, 0.5) if name == "Momentum" else make(0.5)
    table = tf.get_variable("table", [50, 3], use_resource=name in ("Adam", "Ftrl"))
    rows = tf.placeholder(tf.int32, [None])
    loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, rows) - 1.0))
    train = optimizer.minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        start = sess.run(table)
        for chosen in ([3, 3, 7, 49], [1, 2, 3, 4], [5, 5, 5, 5], [0, 0, 1, 1]):
            sess.run(train, {rows: chosen})
        moved = np.flatnonzero((sess.run(table) != start).any(axis=1))
        if name != "Adam":  # its averages go on moving rows, if it ever saw them
            assert set(moved) == {0, 1, 2, 3, 4, 5, 7, 49}
        (step,) = [s for s in steps_of(sess) if train in s.targets]
        (segment,) = step.split.segments
        assert segment.is_island
        with pytest.raises(tf.errors.InvalidArgumentError, match="50"):
            sess.run(train, {rows: [1, 50, 2, 3]})
        sess.run(train, {rows: [1, 4, 2, 3]})


def test_padding_is_for_those_alone_who_do_not_look_at_it():
    """An update of the user's, a fetch, and a host operation see the different rows, and these only."""
    table = tf.get_variable("table", [9, 2], initializer=tf.zeros_initializer())
    seen = []

    class Own(tf.train.GradientDescentOptimizer):
        def _apply_sparse_duplicate_indices(self, grad, var):
            return tf.train.Optimizer._apply_sparse_duplicate_indices(self, grad, var)

        def _apply_sparse(self, grad, var):
            seen.append(grad.values)
            step = grad.values - tf.reduce_mean(grad.values)
            return var.scatter_sub(tf.IndexedSlices(step, grad.indices))

    grads = tf.placeholder(tf.float32, [None, 2])
    rows = tf.placeholder(tf.int64, [None])
    own = Own(1.0).apply_gradients([(tf.IndexedSlices(grads, rows), table)])
    feeds = {grads: [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], rows: [4, 4, 8]}
    adagrad = tf.train.AdagradOptimizer(1.0)
    plain = adagrad.apply_gradients([(tf.IndexedSlices(grads, rows), table)])
    unique = tf.get_default_graph().get_operation_by_name("Adagrad/update_table/Unique")
    assert unique.get_attr(PADDED)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            assert sess.run(seen[0], feeds).tolist() == [[3.0, 3.0], [3.0, 3.0]]
            sess.run(own, feeds)
            _, found = sess.run([plain, unique.outputs[0]], feeds)
            assert found.tolist() == [4, 8]
            sess.run(tf.global_variables_initializer())
            sess.run(plain, feeds)
        expected = np.zeros((9, 2), np.float32)
        expected[[4, 8]] = -3 / np.sqrt(9.1)
        np.testing.assert_allclose(sess.run(table), expected, rtol=1e-6)
        np.testing.assert_allclose(
            sess.run(adagrad.get_slot(table, "accumulator"))[[0, 4]], [[0.1] * 2, [9.1] * 2]
        )


def test_a_step_that_fails_changes_nothing():
    table = tf.get_variable("table", [4, 1], initializer=tf.ones_initializer())
    rows = tf.placeholder(tf.int32, [None])
    slices = tf.IndexedSlices(tf.ones([2, 1]), rows)
    optimizer = tf.train.MomentumOptimizer(0.5, 0.5)
    train = optimizer.apply_gradients([(slices, table)])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
                sess.run(train, {rows: [0, 7]})
            assert sess.run(table).tolist() == [[1.0]] * 4
            assert not sess.run(optimizer.get_slot(table, "momentum")).any()


# ---- what surrounds the update


def test_slots_and_other_variables():
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    optimizer = tf.train.AdamOptimizer(name="Mine")
    assert optimizer.get_name() == "Mine"
    assert optimizer.variables() == [] and optimizer.get_slot(w, "m") is None
    train = optimizer.minimize(tf.reduce_sum(w * w), name="go")
    assert train.name == "go" and tf.get_collection(tf.GraphKeys.TRAIN_OP) == [train]
    assert [v.name for v in optimizer.variables()] == [
        "beta1_power:0",
        "beta2_power:0",
        "w/Mine:0",
        "w/Mine_1:0",
    ]
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(w, "v").name == "w/Mine_1:0"
    assert optimizer.get_slot(w, "other") is None
    assert tf.trainable_variables() == [w]
    assert optimizer.minimize(tf.reduce_sum(w)).name == "Mine"
    assert len(optimizer.variables()) == 4  # the same slots serve another update
    with tf.Graph().as_default():
        assert optimizer.variables() == []


def test_slots_of_a_part_say_which_part_they_are():
    parts = tf.get_variable("p", [5, 2], partitioner=tf.fixed_size_partitioner(2))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    optimizer.minimize(tf.reduce_sum(tf.nn.embedding_lookup(parts, [1, 4])), var_list=list(parts))
    slot = optimizer.get_slot(list(parts)[1], "momentum")
    info = slot._get_save_slice_info()
    assert (slot.name, info.full_name) == ("p/part_1/Momentum:0", "p/Momentum")
    assert info.spec == "5 2 3,2:0,2"


def test_slots_of_variables_of_unknown_shape():
    value = tf.placeholder_with_default([2.0, 3.0], [None])
    w = tf.Variable(value, validate_shape=False, name="w")
    makers = (tf.train.AdagradOptimizer, tf.train.RMSPropOptimizer, tf.train.AdamOptimizer)
    trains = [make(0.1).minimize(tf.reduce_sum(w)) for make in makers]
    with tf.Session() as sess:
        sess.run(w.initializer)
        sess.run(tf.variables_initializer([v for v in tf.global_variables() if v is not w]))
        sess.run(trains)
        assert sess.run(w).shape == (2,) and (sess.run(w) < [2.0, 3.0]).all()


@pytest.mark.parametrize("use_resource", [False, True])
def test_constraints(use_resource):
    w = tf.get_variable(
        "w",
        [2],
        initializer=tf.ones_initializer(),
        constraint=lambda v: tf.clip_by_value(v, 0.0, 1.5),
        use_resource=use_resource,
    )
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    train = optimizer.apply_gradients([(tf.constant([3.0, -0.25]), w)])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        found = []
        for _ in range(3):
            sess.run(train)
            found.append(sess.run(w).tolist())
    assert found == [[0.0, 1.25], [0.0, 1.5], [0.0, 1.5]]
    slices = tf.IndexedSlices(tf.constant([1.0]), tf.constant([0]))
    with pytest.raises(RuntimeError, match="Cannot use a constraint function on a sparse variable"):
        optimizer.apply_gradients([(slices, w)])


def test_an_optimizer_of_the_users():
    class Sign(tf.train.Optimizer):
        def __init__(self, rate):
            super().__init__(use_locking=False, name="Sign")
            self._rate = rate

        def _create_slots(self, var_list):
            for v in var_list:
                self._zeros_slot(v, "count", "Counted")
            self._create_non_slot_variable(0.0, "total", colocate_with=var_list[0])

        def _prepare(self):
            self._rate_t = tf.convert_to_tensor(self._call_if_callable(self._rate), name="rate")

        def _apply_dense(self, grad, var):
            count = self.get_slot(var, "count")
            counted = tf.assign_add(count, tf.ones_like(count))
            return tf.group(tf.assign_sub(var, self._rate_t * tf.sign(grad)), counted)

        _resource_apply_dense = _apply_dense

        def _finish(self, update_ops, name_scope):
            with tf.control_dependencies(update_ops):
                total = self._get_non_slot_variable("total", graph=tf.get_default_graph())
                return tf.group(total.assign_add(1.0), name=name_scope)

    a = tf.get_variable("a", initializer=[1.0, -1.0])
    b = tf.get_variable("b", initializer=[[4.0]], use_resource=True)
    optimizer = Sign(lambda: 0.5)
    train = optimizer.minimize(tf.reduce_sum(a * a) + tf.reduce_sum(b), var_list=[a, b])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run(train)
        names = {v.op.name: sess.run(v).tolist() for v in tf.global_variables()}
    assert names == {
        "a": [0.0, 0.0],
        "b": [[3.0]],
        "a/Counted": [2.0, 2.0],
        "b/Counted": [[2.0]],
        "total": 2.0,
    }


def test_functions_and_tensors_as_hyperparameters():
    rate = tf.placeholder(tf.float32, [])
    w = tf.get_variable("w", initializer=np.ones(2), use_resource=True)
    slices = tf.IndexedSlices(tf.ones([2], tf.float64), [0, 0])
    trains = [
        make.apply_gradients(pairs)
        for make in (
            tf.train.GradientDescentOptimizer(rate),
            tf.train.MomentumOptimizer(lambda: rate, lambda: 0.0),
            tf.train.RMSPropOptimizer(lambda: rate, decay=lambda: 0.0, epsilon=lambda: 0.0),
        )
        for pairs in ([(tf.ones([2], tf.float64), w)], [(slices, w)])
    ]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        moves = []
        for i, train in enumerate(trains):
            before = sess.run(w)
            sess.run(train, {rate: 0.1 * (i + 1)})
            moves.append(before - sess.run(w))
    expected = [[0.1, 0.1], [0.4, 0.0], [0.3, 0.3], [0.8, 0.0], [0.5, 0.5], [0.6, 0.0]]
    np.testing.assert_allclose(moves, expected, rtol=1e-6, atol=1e-12)


def test_gates_order_gradients():
    a, b = tf.get_variable("a", initializer=2.0), tf.get_variable("b", initializer=3.0)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    loss = a * b
    for gate in (optimizer.GATE_NONE, optimizer.GATE_OP, optimizer.GATE_GRAPH):
        pairs = optimizer.compute_gradients(loss, {"x": a, "y": [b]}, gate_gradients=gate)
        assert [v for _, v in pairs] == [a, b]
        assert run_initialized([g for g, _ in pairs]) == [3.0, 2.0]
    waits = [g.op.control_inputs for g, _ in pairs]
    assert [op.type for op in waits[0]] == ["NoOp"] and waits[0] == waits[1]
    (scaled,) = optimizer.compute_gradients(loss, [a], grad_loss=tf.constant(10.0))
    assert run_initialized(scaled[0]) == 30.0


def test_words_of_errors():
    w = tf.get_variable("w", [2])
    other = tf.get_variable("other", [2])
    ints = tf.get_variable("ints", [2], tf.int32)
    loss = tf.reduce_sum(w)
    t, sgd = tf.train, tf.train.GradientDescentOptimizer(0.1)
    none = "No gradients provided for any variable"
    cases = [
        (ValueError, "Must specify the optimizer name", lambda: t.AdamOptimizer(name="")),
        (ValueError, f"{none}, check", lambda: sgd.minimize(loss, var_list=[other])),
        (ValueError, "No variables to optimize", lambda: sgd.minimize(loss, var_list=[])),
        (ValueError, "No variables provided", lambda: sgd.apply_gradients([])),
        (ValueError, f"{none}: ", lambda: sgd.apply_gradients([(None, w)])),
        (TypeError, "Gradient must be convertible", lambda: sgd.apply_gradients([(object(), w)])),
        (ValueError, "gate_gradients must be", lambda: sgd.minimize(loss, gate_gradients=7)),
        (ValueError, "Invalid type tf.int32", lambda: sgd.minimize(tf.reduce_sum(ints))),
        (
            NotImplementedError,
            "Trying to update a Tensor",
            lambda: sgd.apply_gradients([(loss, tf.ones([2]))]),
        ),
        (ValueError, "must be positive", lambda: t.AdagradOptimizer(0.1, 0.0)),
        (ValueError, "negative or zero", lambda: t.FtrlOptimizer(0.1, learning_rate_power=0.1)),
        (ValueError, "global_step is required", lambda: t.exponential_decay(0.1, None, 1, 0.5)),
        (ValueError, "same dtype as x", lambda: t.piecewise_constant(1, [1.5], [1.0, 2.0])),
        (TypeError, "must be half", lambda: t.ExponentialMovingAverage(0.5).apply([ints])),
    ]
    for kind, words, act in cases:
        with pytest.raises(kind, match=words):
            act()


# ---- the global step, moving averages, decays


def test_the_global_step():
    assert tf.train.get_global_step() is None
    step = tf.train.create_global_step()
    assert step is tf.train.get_or_create_global_step() is tf.train.get_global_step()
    assert (step.name, step.dtype.base_dtype) == ("global_step:0", tf.int64)
    assert step in tf.global_variables() and tf.get_collection("global_step") == [step]
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()
    w = tf.get_variable("w", initializer=1.0)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(w * w, global_step=step)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert tf.train.global_step(sess, step) == 0
        for _ in range(2):
            sess.run(train)
        assert tf.train.global_step(sess, "global_step:0") == 2
    for wrong in (tf.constant(1.0), tf.constant([1]), "name"):
        with pytest.raises(TypeError, match="global_step"):
            tf.train.assert_global_step(wrong)
    with tf.Graph().as_default():
        named = tf.Variable(5, name="global_step")
        assert tf.train.get_global_step() is named.graph.get_tensor_by_name("global_step:0")


def test_moving_averages():
    w = tf.Variable([1.0, 2.0], name="w")
    count = tf.Variable(0.0, name="count", trainable=False)
    double = tf.identity(w * 2, name="double")
    averages = tf.train.ExponentialMovingAverage(0.75, num_updates=count, zero_debias=True)
    assert averages.average_name(w) == "w/ExponentialMovingAverage"
    assert averages.average(w) is None
    with tf.control_dependencies([w.assign_add([4.0, 8.0]), count.assign_add(1.0)]):
        update = averages.apply([w, double])
    assert averages.average(w).op.name == averages.average_name(w)
    assert tf.moving_average_variables() == [w]
    assert averages.variables_to_restore() == {
        "w/ExponentialMovingAverage": w,
        "count": count,
        "double/ExponentialMovingAverage": averages.average(double),
        "double/ExponentialMovingAverage/biased": tf.global_variables()[-2],
        "double/ExponentialMovingAverage/local_step": tf.global_variables()[-1],
    }
    expected = np.array([1.0, 2.0])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for step in range(1, 4):
            sess.run(update)
            decay = min(0.75, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * np.array([1.0 + 4 * step, 2.0 + 8 * step])
            np.testing.assert_allclose(sess.run(averages.average(w)), expected, rtol=1e-6)
        # A corrected average of what never changes is exact from the first step on.
        kept = tf.train.ExponentialMovingAverage(0.9, zero_debias=True, name="kept")
        constant = tf.constant([3.0], name="three")
        update = kept.apply([constant])
        sess.run(tf.variables_initializer(tf.global_variables("three/kept")))
        sess.run(update)
        np.testing.assert_allclose(sess.run(kept.average(constant)), [3.0], rtol=1e-6)


def test_decays_of_learning_rates():
    step = tf.placeholder(tf.int32, [])
    t = tf.train
    half = 0.5 * (1 + np.cos(np.pi / 4))
    second = 0.05 * 0.5 * (1 + np.cos(np.pi / 8))
    rows = {  # at steps 0, 5 and 25
        t.exponential_decay(0.1, step, 10, 0.5): [0.1, 0.1 * 0.5**0.5, 0.1 * 0.5**2.5],
        t.exponential_decay(0.1, step, 10, 0.5, staircase=True): [0.1, 0.1, 0.025],
        t.natural_exp_decay(0.1, step, 10, 0.5): 0.1 * np.exp([0, -0.25, -1.25]),
        t.inverse_time_decay(0.1, step, 10, 0.5): [0.1, 0.08, 0.1 / 2.25],
        t.inverse_time_decay(0.1, step, 10, 0.5, staircase=True): [0.1, 0.1, 0.05],
        t.polynomial_decay(0.1, step, 20, 0.02, power=2.0): [0.1, 0.02 + 0.08 * 0.75**2, 0.02],
        t.polynomial_decay(0.1, step, 20, 0.02, cycle=True): [0.1, 0.08, 0.02 + 0.08 * 15 / 40],
        t.cosine_decay(0.1, step, 20, alpha=0.2): [0.1, 0.02 + 0.08 * half, 0.02],
        t.cosine_decay_restarts(0.1, step, 20, m_mul=0.5): [0.1, 0.1 * half, second],
        t.cosine_decay_restarts(0.1, step, 20, t_mul=1.0): [0.1, 0.1 * half, 0.1 * half],
        t.linear_cosine_decay(0.1, step, 20): [0.1001, 0.1 * (0.75 * half + 0.001), 0.0001],
        t.piecewise_constant(step, [0, 5], [1.0, 0.5, 0.1]): [1.0, 0.5, 0.1],
    }  # fmt: skip
    noisy = t.noisy_linear_cosine_decay(0.1, step, 20, initial_variance=1e-12)
    rows[noisy] = rows[list(rows)[-2]]
    with tf.Session() as sess:
        found = [sess.run(list(rows), {step: s}) for s in (0, 5, 25)]
    expected = np.array([*rows.values()]).T
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)
    assert all(rate.shape == () and rate.dtype == tf.float32 for rate in rows)
