"""Orders and random numbers are those of TensorFlow 1.15 (tests/oracle/make_datasets.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements
from tests.oracle.dataset_pipelines import GRAPH_ELEMENTS, PIPELINES, build_graph

DATA = Path(__file__).parents[1] / "data"
STORED = json.loads((DATA / "datasets.json").read_text())


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_the_elements_are_tensorflows(name):
    make, one_shot, count, seed = PIPELINES[name]
    if seed is not None:
        tf.set_random_seed(seed)
    found = elements(make(tf), one_shot, count)
    assert len(found) == len(STORED[name]) > 3
    for mine, theirs in zip(found, STORED[name], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("made_by", ["tensorflow", "headrace"])
def test_a_graph_of_tensorflow_runs(made_by):
    if made_by == "tensorflow":
        graph_def = tf.GraphDef.FromString((DATA / "datasets_graph.pb").read_bytes())
        tf.import_graph_def(graph_def, name="")
    else:
        build_graph(tf)
    graph = tf.get_default_graph()
    with tf.Session() as session:
        session.run([op for op in graph.get_operations() if op.type == "MakeIterator"])
        for name in GRAPH_ELEMENTS:
            found = []
            with pytest.raises(tf.errors.OutOfRangeError):
                while True:
                    found.append(session.run(f"{name}:0").tolist())
            assert found == STORED[f"graph:{name}"]


def test_nodes_and_attrs_are_tensorflows():
    graph_def = tf.GraphDef.FromString((DATA / "datasets_graph.pb").read_bytes())
    theirs = {n.name: n for n in graph_def.node}
    build_graph(tf)
    compared = 0
    for node in tf.get_default_graph().as_graph_def().node:
        # Of a constant that a function uses Headrace keeps a copy inside; it leaves out a function that changes nothing.
        if node.op in ("ParallelMapDataset", "MapDataset", "UnbatchDataset"):
            continue
        other = theirs[node.name]
        assert (node.op, list(node.input)) == (other.op, list(other.input))
        assert set(node.attr) == set(other.attr), node.name
        for key in ("output_types", "output_shapes", "optimization_configs", "N"):
            assert node.attr[key] == other.attr[key], (node.name, key)
        compared += 1
    assert compared > 40
