"""Graphs of small programs against TensorFlow's: the same nodes, its GraphDefs run here with its values.

tests/oracle/graphs.py recorded them, and shows that TensorFlow runs ours.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.graph import graph_programs
from tests.oracle import graphs

DATA = Path(__file__).parents[1] / "data/graphs"
ANSWERS = json.loads((DATA / "answers.json").read_text())
VALUES = np.load(DATA / "values.npz")
NAMES = sorted(graph_programs.PROGRAMS)
_GRADIENT = re.compile(r"^(gradients|first|second)/")


def nodes_of(name):
    with tf.Graph().as_default() as graph:
        graph_programs.PROGRAMS[name](tf)
        nodes = [graph_programs.describe(n) for n in graph.as_graph_def().node]
    return json.loads(json.dumps(nodes))


@pytest.mark.parametrize("name", NAMES)
def test_the_nodes_of_a_program_are_tensorflows(name):
    """Names, types, inputs, devices and attrs, node by node; of gradients the scopes, as their rules are our own."""
    mine, theirs = nodes_of(name), ANSWERS[name]["nodes"]
    forward = [n for n in mine if not _GRADIENT.match(n[0])]
    assert {n[0]: n for n in forward} == {n[0]: n for n in theirs if not _GRADIENT.match(n[0])}
    scopes = [
        {
            n[0].rpartition("_grad/")[0]
            for n in nodes
            if "_grad/" in n[0] and n[0].startswith("gradients")
        }
        for nodes in (mine, theirs)
    ]
    assert scopes[0] == scopes[1]


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_values_are_tensorflows(name):
    if not ANSWERS[name]["fetches"]:
        pytest.skip("builds a graph only")
    _, _, names, found, _, _ = graphs.build_and_run(tf, name)
    assert len(names) == len(ANSWERS[name]["fetches"])
    for i, value in enumerate(found):
        np.testing.assert_allclose(value, VALUES[f"{name}/{i}"], rtol=1e-5, err_msg=names[i])


@pytest.mark.filterwarnings("ignore:.*depend on gradients of loops")
def test_its_graphs_run_here():
    assert (
        graphs.load_and_run(tf, str(DATA)) == sum(len(a["fetches"]) for a in ANSWERS.values()) > 20
    )


def test_a_graph_survives_export_and_import():
    for name in NAMES:
        with tf.Graph().as_default() as first:
            graph_programs.PROGRAMS[name](tf)
        exported = first.as_graph_def()
        with tf.Graph().as_default() as second:
            tf.import_graph_def(exported, name="")
        again = second.as_graph_def()
        assert {n.name: n for n in again.node} == {n.name: n for n in exported.node}, name
        for op in first.get_operations():
            for before, after in zip(op.outputs, second.get_operation_by_name(op.name).outputs):
                assert before.shape.is_compatible_with(after.shape), before
