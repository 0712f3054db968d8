"""Graphs of Switch, Merge and the nodes of loops, as TensorFlow 1.15 runs them."""

import numpy as np
import pytest

import headrace as tf

R = tf.raw_ops


@pytest.fixture
def fed():
    return tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [])


def test_one_side_is_dead(fed):
    p, x = fed
    false, true = R.Switch(data=x, pred=p)
    y, taken = R.Merge(inputs=[false * 2.0, true + 1.0])
    (slope,) = tf.gradients(y, x)
    with tf.control_dependencies([true]):
        after_the_switch = tf.constant(5.0)
    with tf.control_dependencies([tf.identity(true)]):
        after_a_side = tf.constant(5.0)
    nothing = R.Merge(inputs=[false + 1.0, false + 2.0])[0]
    with tf.Session() as session:
        assert session.run([y, taken, slope], {p: True, x: 3.0}) == [4.0, 1, 1.0]
        assert session.run([y, taken, slope], {p: False, x: 3.0}) == [6.0, 0, 2.0]
        assert session.run([true, after_a_side], {p: True, x: 3.0}) == [3.0, 5.0]
        assert session.run(after_the_switch, {p: False, x: 3.0}) == 5.0
        assert session.run(tf.identity(false), {false: 7.0}) == 7.0
        for dead, pred in ((true, False), (after_a_side, False), (nothing, True)):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"Retval\[0\] does not have value"
            ):
                session.run(dead, {p: pred, x: 3.0})
        assert session.run(nothing.op, {p: True, x: 3.0}) is None


def test_only_what_is_needed_is_fed(fed):
    p, x = fed
    other = tf.placeholder(tf.float32, [])
    y = R.Merge(inputs=[R.Switch(data=x, pred=p)[0], R.Switch(data=other, pred=p)[1]])[0]
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value"):
            session.run(y, {p: False, x: 3.0})
        assert session.run(y, {p: False, x: 3.0, other: 0.0}) == 3.0


def _loop(start, frame, limit=5.0, step=1.0):
    """Adds `step` until `limit` is reached."""
    i = R.Enter(data=start, frame_name=frame)
    limit, step = (
        R.Enter(data=tf.constant(c), frame_name=frame, is_constant=True) for c in (limit, step)
    )
    i = R.Merge(inputs=[i, i])[0]
    side = R.Switch(data=i, pred=R.LoopCond(input=i < limit))
    i.op._update_input(1, R.NextIteration(data=side[1] + step))
    return R.Exit(data=side[0])


def test_loops(fed):
    p, x = fed
    false, true = R.Switch(data=x, pred=p)
    in_branch = _loop(true, "branch")
    twice = _loop(_loop(x, "first") - 5.0, "second")
    either = R.Merge(inputs=[in_branch, false * 100.0])
    functional = tf.while_loop(lambda k: k < 3.0, lambda k: k + true, [tf.constant(0.0)])
    with tf.Session() as session:
        assert session.run(twice, {x: 0.5}) == 5.5
        assert session.run(_loop(x, "none"), {x: 10.0}) == 10.0
        assert tuple(session.run(either, {p: True, x: 0.5})) == (5.5, 0)
        assert tuple(session.run(either, {p: False, x: 0.5})) == (50.0, 1)
        assert session.run(functional, {p: True, x: 2.0}) == 4.0
        for dead in (in_branch, functional):
            with pytest.raises(tf.errors.InvalidArgumentError, match="does not have value"):
                session.run(dead, {p: False, x: 0.5})
    with pytest.raises(TypeError, match=r"use tf\.while_loop"):
        tf.gradients(twice, x)


def test_a_loop_in_a_loop(fed):
    x = fed[1]
    total, i = R.Enter(data=tf.constant(0.0), frame_name="o"), R.Enter(data=x, frame_name="o")
    one, three = (
        R.Enter(data=tf.constant(c), frame_name="o", is_constant=True) for c in (1.0, 3.0)
    )
    total, i = (R.Merge(inputs=[t, t])[0] for t in (total, i))
    go_on = R.LoopCond(input=i < three)
    totals, sides = (R.Switch(data=t, pred=go_on) for t in (total, i))
    k = R.Enter(data=totals[1], frame_name="i")
    inner_one, until = (
        R.Enter(data=t, frame_name="i", is_constant=True) for t in (one, sides[1] * three)
    )
    k = R.Merge(inputs=[k, k])[0]
    inner = R.Switch(data=k, pred=R.LoopCond(input=k < until))
    k.op._update_input(1, R.NextIteration(data=inner[1] + inner_one))
    i.op._update_input(1, R.NextIteration(data=sides[1] + one))
    total.op._update_input(1, R.NextIteration(data=R.Exit(data=inner[0]) + one))

    def in_python(i, total=0.0):
        while i < 3.0:
            k = total
            while k < 3.0 * i:
                k += 1.0
            i, total = i + 1.0, k + 1.0
        return total

    with tf.Session() as session:
        for start in (0.5, -2.0, 7.0):
            assert session.run(R.Exit(data=totals[0]), {x: start}) == in_python(start)


def test_inputs_from_different_frames():
    a, b = (R.Enter(data=tf.constant(1.0), frame_name=n) for n in "ab")
    with tf.Session() as session:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"inputs from different frames.*'a'.*'b'"
        ):
            session.run(a + b)


def test_variables(fed):
    """A variable is written where its side is taken, in loops once for each iteration."""
    p = fed[0]
    v = tf.Variable(1.0)
    false, true = R.RefSwitch(data=v._ref(), pred=p)
    y = R.Merge(inputs=[tf.assign_add(true, 5.0), tf.identity(false)])[0]
    with tf.Session() as session:
        session.run(v.initializer)
        assert [session.run(y, {p: b}) for b in (False, True, True, False)] == [
            1.0,
            6.0,
            11.0,
            11.0,
        ]
        assert session.run(v) == 11.0
        options, metadata = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
        session.run(y, {p: True}, options, metadata)
        names = {s.node_name for d in metadata.step_stats.dev_stats for s in d.node_stats}
        assert y.op.inputs[0].op.name in names
        session.run(y, {p: True}, tf.RunOptions(timeout_in_ms=60_000))


def test_references_pass_through_loops_and_merges(fed):
    p, x = fed
    v = tf.Variable(1.0)
    merged = R.RefMerge(inputs=list(R.RefSwitch(data=v._ref(), pred=p)))
    inside = R.RefEnter(data=merged[0], frame_name="f", is_constant=True)
    i = R.Enter(data=x, frame_name="f")
    one, three = (
        R.Enter(data=tf.constant(c), frame_name="f", is_constant=True) for c in (1.0, 3.0)
    )
    i = R.Merge(inputs=[i, i])[0]
    sides = R.Switch(data=i, pred=R.LoopCond(input=i < three))
    with tf.control_dependencies([sides[1] + one]):
        written = tf.assign_add(inside, one)
    i.op._update_input(1, R.NextIteration(data=sides[1] + tf.minimum(written, one)))
    count = R.Exit(data=sides[0])
    left = R.RefExit(data=inside)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(merged[1], {p: True}) == 1
        assert session.run(count, {p: True, x: 0.0}) == 3.0
        assert session.run(v) == 4.0
        assert session.run(tf.identity(left), {p: False}) == 4.0


def test_slices_and_names_of_private_modules():
    from headrace.compat.private.python.ops.control_flow_ops import merge, switch

    x = tf.constant([1.0, 2.0])
    false, true = switch(tf.IndexedSlices(x, tf.constant([3, 4])), tf.constant(True))
    merged, taken = merge([false, true])
    with tf.Session() as session:
        values, indices, number = session.run([merged.values, merged.indices, taken])
        np.testing.assert_array_equal([values, indices], [[1.0, 2.0], [3, 4]])
        assert number == 1
    with pytest.raises(ValueError, match="None"):
        merge([x, None])
