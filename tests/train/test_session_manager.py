"""`tf.train.SessionManager`: what it initialises, what it restores, what it waits for, and what it refuses."""

import threading
import time

import numpy as np
import pytest

import headrace as tf


@pytest.fixture
def model():
    """A variable, a local one, and a manager of their graph."""
    v = tf.get_variable("v", initializer=np.float32(1))
    local = tf.get_variable(
        "local",
        initializer=2.0,
        collections=[tf.GraphKeys.LOCAL_VARIABLES],
        trainable=False,
    )
    manager = tf.train.SessionManager(
        local_init_op=tf.local_variables_initializer(),
        ready_op=tf.report_uninitialized_variables(),
        ready_for_local_init_op=tf.report_uninitialized_variables(tf.global_variables()),
        recovery_wait_secs=0.02,
    )
    return manager, v, local


def test_what_is_not_there_is_initialised(model):
    manager, v, local = model
    value = tf.placeholder(tf.float32, [])
    for arguments, wanted in (
        ({"init_op": v.initializer}, 1.0),
        ({"init_op": v.assign(value), "init_feed_dict": {value: 5.0}}, 5.0),
        ({"init_fn": lambda sess: v.load(7.0, sess)}, 7.0),
        ({"init_op": v.initializer, "init_fn": lambda sess: v.load(8.0, sess)}, 8.0),
    ):
        with manager.prepare_session("", **arguments) as sess:
            assert sess.run([v, local]) == [wanted, 2.0]


def test_a_model_that_is_not_ready_is_refused(model):
    manager, v, _ = model
    with pytest.raises(
        RuntimeError, match=r"did not make model ready for local_init.*initialized: v"
    ):
        manager.prepare_session("", init_op=tf.no_op())
    late = tf.train.SessionManager(ready_op=tf.report_uninitialized_variables())
    with pytest.raises(RuntimeError, match=r"did not make model ready\. .*initialized: local"):
        late.prepare_session("", init_op=v.initializer)
    with pytest.raises(RuntimeError, match="no init_op or init_fn or local_init_op was given"):
        late.prepare_session("")
    with pytest.raises(ValueError, match="you must also pass a local_init_op"):
        tf.train.SessionManager(ready_for_local_init_op=tf.no_op())
    # An assertion that fails says the same; another failure is raised.
    asserted = tf.train.SessionManager(ready_op=tf.assert_variables_initialized([v]))
    with pytest.raises(RuntimeError, match="did not make model ready"):
        asserted.prepare_session("", init_op=tf.no_op())

    def broken():
        raise tf.errors.FailedPreconditionError(None, None, "the disk is gone")

    failing = tf.train.SessionManager(ready_op=tf.py_func(broken, [], tf.string))
    with pytest.raises(tf.errors.FailedPreconditionError, match="the disk is gone"):
        failing.prepare_session("", init_op=v.initializer)


def test_checkpoints_are_restored_and_waited_for(model, tmp_path):
    manager, v, local = model
    saver, folder = tf.train.Saver([v]), str(tmp_path)
    sess, restored = manager.recover_session("", saver, checkpoint_dir=folder)
    assert not restored
    begun = time.monotonic()
    _, restored = manager.recover_session(
        "", saver, checkpoint_dir=folder, wait_for_checkpoint=True, max_wait_secs=0.1
    )
    assert not restored and time.monotonic() - begun >= 0.1
    sess = manager.prepare_session("", init_fn=lambda sess: v.load(3.0, sess))

    def save():
        time.sleep(0.1)
        saver.save(sess, str(tmp_path / "model"), global_step=1)

    saving = threading.Thread(target=save)
    saving.start()
    other, restored = manager.recover_session(
        "", saver, checkpoint_dir=folder, wait_for_checkpoint=True, max_wait_secs=30
    )
    saving.join()
    assert restored and other.run([v, local]) == [3.0, 2.0]
    newer = tf.train.Saver([v])
    for where in (
        {"checkpoint_dir": folder},
        {"checkpoint_filename_with_path": f"{folder}/model-1"},
    ):
        prepared = manager.prepare_session("", init_op=v.initializer, saver=newer, **where)
        assert prepared.run(v) == 3.0
        assert newer.last_checkpoints == [f"{folder}/model-1"]
    with pytest.raises(ValueError, match="both checkpoint_dir and checkpoint_filename_with_path"):
        manager.prepare_session(
            "", saver=saver, checkpoint_dir=folder, checkpoint_filename_with_path="x"
        )
    # Restored, but not everything that there is.
    w = tf.get_variable("w", initializer=1.0)
    strict = tf.train.SessionManager(ready_op=tf.report_uninitialized_variables([v, w]))
    sess, restored = strict.recover_session("", saver, checkpoint_dir=folder)
    assert not restored and sess.run(v) == 3.0


def test_waiting_for_a_session(model):
    manager, _, _ = model
    begun = time.monotonic()
    with pytest.raises(tf.errors.DeadlineExceededError, match="not ready after waiting"):
        manager.wait_for_session("", max_wait_secs=0.1)
    assert 0.05 < time.monotonic() - begun < 5
    with tf.Graph().as_default():
        tf.constant(1.0)
        ready = tf.train.SessionManager(ready_op=tf.no_op(), recovery_wait_secs=0.02)
        assert ready.wait_for_session("", max_wait_secs=None).run("Const:0") == 1.0
