"""Sums of products that programs compute as one product: which are found, and that they stay what they are."""

import numpy as np
import pytest

import headrace as tf
from headrace.core import errors
from headrace.lowering import fused, island
from headrace.passes.join_products import find_sums
from headrace.passes.prune import prune

random = np.random.default_rng(0)


def matrix(*shape, dtype=np.float32):
    return tf.placeholder(dtype, shape)


def product(rows=8, **attrs):
    """a' b with so many rows, [24, 40]."""
    attrs = {"transpose_a": True, **attrs}
    a = matrix(rows, 24) if attrs["transpose_a"] else matrix(24, rows)
    b = matrix(40, rows) if attrs.get("transpose_b") else matrix(rows, 40)
    return tf.raw_ops.MatMul(a=a, b=b, **attrs)


def found(fetches, fed=()):
    """The names of the products of each sum."""
    sums = find_sums(prune([t.op for t in fetches], frozenset(fed)), set(fetches), frozenset(fed))
    return {op.name: [p.name for p in products] for op, products in sums.items()}


def test_products_that_nobody_else_uses_are_found():
    a, b, c = product(), product(), product()
    total = tf.add_n([a, b, c], name="sum")
    names = [t.op.name for t in (a, b, c)]
    assert found([total]) == {"sum": names}
    assert found([total, b]) == {"sum": [names[0], names[2]]}
    assert found([total], fed=[a]) == {"sum": names[1:]}
    assert found([total, a, b]) == found([total], fed=[a, c]) == found([total], fed=[total]) == {}
    assert found([total, tf.square(c)]) == {"sum": names[:2]}
    assert found([tf.add_n([a, a, b])]) == {}
    assert found([tf.add_n([product(transpose_a=False), product(transpose_b=True), a])]) == {}
    whole = [tf.raw_ops.MatMul(a=matrix(8, 24, dtype=np.int32), b=matrix(8, 40, dtype=np.int32),
                               transpose_a=True) for _ in range(2)]  # fmt: skip
    assert found([tf.add_n(whole)]) == {}


def both(fetches, feeds, monkeypatch):
    """Compares programs with and without joined products; how many products each sum had that was one, 0 if it was not."""
    results, joined = [], {}
    plain = fused.joined

    def noted(op, products, *rest):
        found = plain(op, products, *rest)
        joined[op.name] = 0 if found is None else len(products)
        return found

    monkeypatch.setattr(fused, "joined", noted)
    for joins in (True, False):
        with monkeypatch.context() as patch, tf.Session() as session:
            if not joins:
                patch.setattr(island, "find_fusions", lambda *_: fused.NOTHING)
            session.run(tf.global_variables_initializer())
            results.append([session.run(fetches, feeds) for _ in range(6)][-1])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    return list(joined.values())


def test_an_unrolled_network_has_one_product_for_the_gradient_of_its_weight(monkeypatch):
    tf.set_random_seed(1)
    steps, x = 5, matrix(None, 5, 16)
    cell = tf.nn.rnn_cell.LSTMCell(64)
    outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, steps, axis=1), dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(outputs[-1])) + tf.reduce_mean(outputs[0])
    fetches = [loss, *tf.gradients(loss, tf.trainable_variables())]
    feeds = {x: random.standard_normal((12, 5, 16)).astype(np.float32)}
    assert both(fetches, feeds, monkeypatch) == [steps]


def test_other_terms_stay_and_many_rows_are_not_copied(monkeypatch):
    a, b = product(8), product(8)
    other, twice = matrix(24, 40), product(64)
    sums = [tf.add_n([other, a, b, 2 * other]), tf.add_n([twice, product(64)])]
    fed = {t: random.standard_normal(t.shape).astype(np.float32) for s in sums for t in inputs(s)}
    assert both(sums, fed, monkeypatch) == [2, 0]


def inputs(total):
    """The placeholders behind a sum."""
    return {
        t for op in prune([total.op], frozenset()) for t in op.outputs if op.type == "Placeholder"
    }


def test_what_does_not_fit_is_told_of_the_product():
    x, y = matrix(None, 24), matrix(None, 40)
    good, bad = product(), tf.matmul(x, y, transpose_a=True, name="bad")
    feeds = {t: np.ones(t.shape, np.float32) for t in inputs(good)}
    total = tf.add_n([good, bad])
    with tf.Session() as session:
        for _ in range(3):
            session.run(total, {x: np.ones([8, 24]), y: np.ones([8, 40]), **feeds})
        with pytest.raises(errors.InvalidArgumentError, match="bad"):
            session.run(total, {x: np.ones([7, 24]), y: np.ones([9, 40]), **feeds})


def test_a_trace_names_the_products_that_were_joined():
    total = tf.add_n([product(), product()], name="sum")
    feeds = {t: np.ones(t.shape, np.float32) for t in inputs(total)}
    names = {total.op.name, *(t.op.name for t in total.op.inputs)}
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    with tf.Session() as session:
        for _ in range(6):
            session.run(total, feeds)
        session.run(total, feeds, options=options, run_metadata=metadata)
    stats = metadata.step_stats.dev_stats
    assert names <= {node.node_name for device in stats for node in device.node_stats}
