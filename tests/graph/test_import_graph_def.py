"""import_graph_def: names, maps, what is refused and in which words."""

import pytest
from google.protobuf import text_format
from tensorboard.compat.proto import op_def_pb2

import headrace as tf

_TWO = """
node { name: 'B' op: 'ListInput' input: 'A:1' input: 'A' input: '^C'
       attr { key: 'N' value { i: 2 } } attr { key: 'T' value { type: DT_INT32 } }
       attr { key: '_class' value { list { s: 'loc:@C' } } } }
node { name: 'A' op: 'TwoIntOutputs' device: '/device:CPU:1' }
node { name: 'C' op: 'None' device: '/job:ps' }
"""


def graph_def(text, producer=134, min_consumer=0):
    message = tf.GraphDef()
    text_format.Parse(text, message)
    message.versions.producer, message.versions.min_consumer = producer, min_consumer
    return message


def test_nodes_in_any_order_under_a_scope():
    with tf.name_scope("outer"):
        a, b, first = tf.import_graph_def(graph_def(_TWO), return_elements=["A", b"B", "A:1"])
    assert (a.name, b.name, first.name) == ("outer/import/A", "outer/import/B", "outer/import/A:1")
    assert [t.name for t in b.inputs] == ["outer/import/A:1", "outer/import/A:0"]
    assert [op.name for op in b.control_inputs] == ["outer/import/C"]
    assert b.colocation_groups() == [b"loc:@outer/import/C"]
    # The device of what B is colocated with is B's.
    assert (a.device, b.device) == ("/device:CPU:1", "/job:ps")
    assert tf.import_graph_def(graph_def(_TWO)) is None


def test_taken_names_are_numbered_scopes_included():
    tf.constant(1, name="A")
    with tf.name_scope("C"):
        tf.constant(2, name="x")
    ops = tf.import_graph_def(graph_def(_TWO), return_elements=["A", "B", "C"], name="")
    assert [op.name for op in ops] == ["A_1", "B", "C_1"]
    assert ops[1].colocation_groups() == [b"loc:@C_1"]
    assert tf.constant(3, name="A").op.name == "A_2"
    again = tf.import_graph_def(graph_def(_TWO), return_elements=["A"], name="A")
    assert again[0].name == "A_3/A"


def test_input_map_of_tensors_values_and_control_inputs():
    zero, before = tf.constant(0), tf.no_op(name="before")
    (b,) = tf.import_graph_def(
        graph_def(_TWO), {"A": zero, b"A:1": [7, 8], "^C": before}, ["B"], name="in"
    )
    assert [t.name for t in b.inputs] == ["in/_inputs/Const:0", "Const:0"]
    assert b.control_inputs == [before]
    with pytest.raises(ValueError, match="requires a non-empty `name`"):
        tf.import_graph_def(graph_def(_TWO), {"A": 1}, name="")
    with pytest.raises(ValueError, match=r"not found in graph_def: \[X:0, A:2\]"):
        tf.import_graph_def(graph_def(_TWO), {"X:0": zero, "A:2": zero})


def test_device_functions_see_the_nodes():
    with tf.device("/task:3"), tf.device(lambda op: "/job:f" if len(op.outputs) == 2 else ""):
        a, c = tf.import_graph_def(graph_def(_TWO), return_elements=["A", "C"])
    assert (a.device, c.device) == ("/job:f/task:3", "/task:3")


def test_defaults_are_added_and_those_of_a_newer_producer_dropped():
    text = "node { name: 'A' op: 'OpWithDefaultAttr' attr { key: 'new' value { i: 4 } } }"
    producer = op_def_pb2.OpList()
    text_format.Parse(
        "op { name: 'OpWithDefaultAttr' attr { name: 'new' type: 'int' default_value { i: 4 } } }",
        producer,
    )
    (a,) = tf.import_graph_def(graph_def(text), return_elements=["A"], producer_op_list=producer)
    assert a.get_attr("default_float") == 123.0
    with pytest.raises(ValueError, match="has no attr named 'new'"):
        a.get_attr("new")
    with pytest.raises(
        ValueError, match="NodeDef mentions attr 'new' not in Op<name=OpWithDefaultAttr"
    ):
        tf.import_graph_def(graph_def(text))


_REFUSED = {
    "is not unique": "node { name: 'A' op: 'None' } node { name: 'A' op: 'None' }",
    "Node 'B': Unknown input node 'A:0'": "node { name: 'B' op: 'IntInput' input: 'A:0' }",
    r"Node 'B': Unknown input node '\^A'": "node { name: 'B' op: 'None' input: '^A' }",
    "Node 'B': Unknown input node 'A:B:0'": "node { name: 'B' op: 'None' input: 'A:B:0' }",
    "Node 'B': Connecting to invalid output 1 of source node A which has 1 outputs": """
        node { name: 'A' op: 'IntOutput' } node { name: 'B' op: 'IntInput' input: 'A:1' }""",
    "Input 0 of node import/B was passed int32 from import/A:0 incompatible with expected float.": """
        node { name: 'A' op: 'IntOutput' } node { name: 'B' op: 'FloatInput' input: 'A' }""",
    "was passed float from import/A:0 incompatible with expected float_ref.": """
        node { name: 'A' op: 'FloatOutput' }
        node { name: 'B' op: 'RefInputFloatInput' input: 'A' input: 'A' }""",
    "NodeDef expected inputs 'int32, float' do not match 1 inputs specified": """
        node { name: 'A' op: 'IntOutput' } node { name: 'B' op: 'IntInputFloatInput' input: 'A' }""",
    "NodeDef missing attr 'T'": "node { name: 'A' op: 'OutT' }",
    "not in list of allowed values": "node { name: 'A' op: 'TestAttr' attr { key: 'T' value { type: DT_BOOL } } }",
    "Node 'B' expects to be colocated with unknown node 'A'": """
        node { name: 'B' op: 'None' attr { key: '_class' value { list { s: 'loc:@A' } } } }""",
    "2 nodes in a cycle": """
        node { name: 'A' op: 'None' input: '^B' } node { name: 'B' op: 'None' input: '^A' }""",
}


@pytest.mark.parametrize("words", _REFUSED)
def test_malformed_graphs_are_refused(words):
    with pytest.raises(ValueError, match=words):
        tf.import_graph_def(graph_def(_REFUSED[words]))


def test_unknown_ops_and_wrong_arguments_are_refused():
    with pytest.raises(
        tf.errors.NotFoundError, match=r"Op type not registered 'Nonsense'.*node 'A'"
    ):
        tf.import_graph_def(graph_def("node { name: 'A' op: 'Nonsense' }"))
    with pytest.raises(TypeError, match="graph_def must be a GraphDef proto"):
        tf.import_graph_def("graph")
    with pytest.raises(TypeError, match="input_map must be a dictionary mapping strings to Tensor"):
        tf.import_graph_def(graph_def(""), [tf.constant(1)])
    with pytest.raises(TypeError, match="return_elements must be a list of strings"):
        tf.import_graph_def(graph_def(""), return_elements=[7])
    for element, words in (
        ("a:b:c", "Cannot convert 'a:b:c' to a tensor name"),
        ("D", "Requested return node 'D' not found in graph def"),
        ("D:0", "Requested return tensor 'D:0' not found in graph def"),
        ("A:2", r"Invalid return output 2 of node 'A', which has 2 output\(s\)"),
    ):
        with pytest.raises(ValueError, match=words):
            tf.import_graph_def(graph_def(_TWO), return_elements=[element])


def test_versions():
    with pytest.raises(
        ValueError, match=r"producer version -1 below min producer 0 .*Please regenerate"
    ):
        tf.import_graph_def(graph_def("", producer=-1))
    with pytest.raises(
        ValueError, match=r"min consumer version 1000 above current version 134 .*Please upgrade"
    ):
        tf.import_graph_def(graph_def("", min_consumer=1000))
    tf.import_graph_def(graph_def(_TWO, producer=21, min_consumer=12))
    versions = tf.get_default_graph().graph_def_versions
    assert (versions.producer, versions.min_consumer) == (21, 12)


def test_declared_shapes_are_merged_and_checked():
    placeholder = """node { name: 'P' op: 'Placeholder' attr { key: 'dtype' value { type: DT_FLOAT } }
        attr { key: '_output_shapes' value { list { shape { dim { size: %d } dim { size: -1 } } } } }
        attr { key: 'shape' value { shape { dim { size: -1 } dim { size: 3 } } } } }"""
    (p,) = tf.import_graph_def(graph_def(placeholder % 2), return_elements=["P:0"])
    assert p.shape.as_list() == [2, 3]
    wrong = placeholder.replace(
        "dim { size: -1 } dim { size: 3 }", "dim { size: 4 } dim { size: 3 }"
    )
    with pytest.raises(ValueError, match=r"Shapes \(4, 3\) and \(2, \?\) are not compatible"):
        tf.import_graph_def(graph_def(wrong % 2))
