"""`tf.summary.FileWriter`: what it writes, read back, and its life."""

import glob
import os

import numpy as np
import pytest

import headrace as tf


def events(folder):
    """The events of all files of a folder, the files in the order of their names."""
    return [
        e
        for path in sorted(glob.glob(os.path.join(str(folder), "*tfevents*")))
        for e in tf.train.summary_iterator(path)
    ]


def test_summaries_by_step(tmp_path):
    x = tf.placeholder(tf.float32, [3])
    merged = tf.summary.merge(
        [tf.summary.scalar("mean", x[0]), tf.summary.text("t", tf.constant("hi"))]
    )
    with tf.Session() as sess, tf.summary.FileWriter(str(tmp_path), filename_suffix=".x") as writer:
        assert writer.get_logdir() == str(tmp_path)
        for step in (0, np.int64(1), 2.0):
            writer.add_summary(sess.run(merged, {x: [float(step), 0, 0]}), step)
        writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="own", simple_value=7)]))
        writer.flush()
        found = events(tmp_path)
    assert found[0].file_version == "brain.Event:2" and len(found) == 5
    assert [(e.step, e.summary.value[0].simple_value) for e in found[1:]] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (0, 7),
    ]
    assert all(e.wall_time > 1e9 for e in found)
    # What the values are is said once for each tag.
    names = [e.summary.value[1].metadata.plugin_data.plugin_name for e in found[1:4]]
    assert names == ["text", "", ""]
    (path,) = os.listdir(tmp_path)
    assert path.startswith("events.out.tfevents.") and path.endswith(".x")


def test_graphs_metadata_and_logs(tmp_path):
    a = tf.constant(1.0, name="a")
    with tf.Session() as sess:
        writer = tf.summary.FileWriter(tmp_path, sess.graph)
        metadata = tf.RunMetadata()
        sess.run(
            a + 1,
            options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
            run_metadata=metadata,
        )
        writer.add_run_metadata(metadata, "step1", 1)
        with pytest.raises(ValueError, match="already used"):
            writer.add_run_metadata(metadata, "step1")
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), 3)
        writer.add_event(tf.Event(step=9))
        writer.add_graph(None, graph_def=sess.graph.as_graph_def())
        writer.add_meta_graph(tf.train.export_meta_graph(), 4)
        with pytest.raises(ValueError, match="not both"):
            writer.add_graph(sess.graph, graph_def=sess.graph)
        for bad in (lambda: writer.add_graph("graph"), lambda: writer.add_meta_graph("meta")):
            with pytest.raises(TypeError):
                bad()
        writer.close()
    found = events(tmp_path)
    assert [e.WhichOneof("what") for e in found] == [
        *(
            "file_version",
            "graph_def",
            "meta_graph_def",
            "tagged_run_metadata",
            "session_log",
            None,
        ),
        *("graph_def", "meta_graph_def"),
    ]
    graph = tf.GraphDef.FromString(found[1].graph_def)
    assert graph.node[0].name == "a" and "_output_shapes" in graph.node[0].attr
    assert tf.MetaGraphDef.FromString(found[2].meta_graph_def).graph_def.node[0].name == "a"
    assert tf.RunMetadata.FromString(found[3].tagged_run_metadata.run_metadata) == metadata
    assert [e.step for e in found[3:6]] == [1, 3, 9]


def test_life(tmp_path):
    writer = tf.summary.FileWriter(str(tmp_path / "new" / "folder"), max_queue=1, flush_secs=1)
    summary = tf.Summary(value=[tf.Summary.Value(tag="t", simple_value=1)])
    writer.close()
    with pytest.warns(UserWarning, match="closed FileWriter"):
        writer.add_summary(summary, 1)
    writer.reopen()
    for step in range(20):
        writer.add_summary(summary, step)
    writer.close()
    found = events(tmp_path / "new" / "folder")
    assert [e.step for e in found if e.summary.value] == list(range(20))
    assert len(os.listdir(tmp_path / "new" / "folder")) == 2


def test_cache_and_shared_files(tmp_path):
    try:
        writer = tf.summary.FileWriterCache.get(str(tmp_path / "a"))
        assert tf.summary.FileWriterCache.get(str(tmp_path / "a")) is writer
        assert tf.summary.FileWriterCache.get(str(tmp_path / "b")) is not writer
    finally:
        tf.summary.FileWriterCache.clear()
    assert tf.summary.FileWriterCache._cache == {} and writer._closed
    with tf.Session() as sess:
        writers = [tf.summary.FileWriter(str(tmp_path / "c"), session=sess) for _ in range(2)]
        for step, writer in enumerate(writers):
            writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="t", simple_value=1)]), step)
        for writer in writers:
            writer.close()
    assert [e.step for e in events(tmp_path / "c") if e.summary.value] == [0, 1]
    assert len(os.listdir(tmp_path / "c")) == 1
