"""`freeze_graph`: a graph and a checkpoint become one graph whose variables are constants."""

from google.protobuf import text_format
from tensorboard.compat.proto import saver_pb2

import headrace as tf


def freeze_graph(
    input_graph,
    input_saver,
    input_binary,
    input_checkpoint,
    output_node_names,
    restore_op_name,
    filename_tensor_name,
    output_graph,
    clear_devices,
    initializer_nodes,
    variable_names_whitelist="",
    variable_names_blacklist="",
    input_meta_graph=None,
    input_saved_model_dir=None,
    saved_model_tags="serve",
    checkpoint_version=saver_pb2.SaverDef.V2,
):
    """Reads a graph from one of three kinds of file, and freezes it with the values of a checkpoint.

    input_graph, input_meta_graph, input_saved_model_dir: the first is a GraphDef, binary or as text.
    output_node_names, initializer_nodes, variable_names_...: names with commas between.
    Returns the frozen GraphDef, which is written to `output_graph` too unless that is empty.
    Raises ValueError: no graph, or no output nodes, are named.  NotFoundError: a file is absent.
    """
    graph_def = meta_graph_def = saver_def = None
    if input_meta_graph:
        meta_graph_def = _read(input_meta_graph, tf.MetaGraphDef(), input_binary)
    elif not input_saved_model_dir:
        if not input_graph:
            raise ValueError(
                "freeze_graph needs input_graph, input_meta_graph or input_saved_model_dir."
            )
        graph_def = _read(input_graph, tf.GraphDef(), input_binary)
    if input_saver:
        saver_def = _read(input_saver, saver_pb2.SaverDef(), input_binary)
    return freeze_graph_with_def_protos(
        graph_def,
        saver_def,
        input_checkpoint,
        output_node_names,
        restore_op_name,
        filename_tensor_name,
        output_graph,
        clear_devices,
        initializer_nodes,
        variable_names_whitelist,
        variable_names_blacklist,
        meta_graph_def,
        input_saved_model_dir,
        saved_model_tags.replace(" ", "").split(","),
        checkpoint_version,
    )


def freeze_graph_with_def_protos(
    input_graph_def,
    input_saver_def,
    input_checkpoint,
    output_node_names,
    restore_op_name,
    filename_tensor_name,
    output_graph,
    clear_devices,
    initializer_nodes,
    variable_names_whitelist="",
    variable_names_blacklist="",
    input_meta_graph_def=None,
    input_saved_model_dir=None,
    saved_model_tags=None,
    checkpoint_version=saver_pb2.SaverDef.V2,
):
    """Freezes a graph that is in memory; see `freeze_graph`. restore_op_name, filename_tensor_name: unused."""
    del restore_op_name, filename_tensor_name
    if not output_node_names:
        raise ValueError("freeze_graph needs the names of output nodes.")
    with tf.Graph().as_default(), tf.Session() as session:
        if input_saved_model_dir:
            tf.saved_model.loader.load(session, saved_model_tags, input_saved_model_dir)
        elif input_meta_graph_def is not None:
            saver = tf.train.import_meta_graph(input_meta_graph_def, clear_devices=clear_devices)
            saver.restore(session, input_checkpoint)
        else:
            if clear_devices:
                input_graph_def = type(input_graph_def).FromString(
                    input_graph_def.SerializeToString()
                )
                for node in input_graph_def.node:
                    node.device = ""
            tf.import_graph_def(input_graph_def, name="")
            _restore(session, input_saver_def, input_checkpoint, checkpoint_version)
            if initializer_nodes:
                session.run(_names(initializer_nodes))
        frozen = tf.graph_util.convert_variables_to_constants(
            session,
            session.graph.as_graph_def(),
            _names(output_node_names),
            variable_names_whitelist=_names(variable_names_whitelist) or None,
            variable_names_blacklist=_names(variable_names_blacklist) or None,
        )
    if output_graph:
        with tf.gfile.GFile(output_graph, "wb") as file:
            file.write(frozen.SerializeToString())
    return frozen


def _restore(session, saver_def, checkpoint, version):
    """Restores what the graph has of the checkpoint's tensors; a bare GraphDef has no collections."""
    if saver_def is not None:
        tf.train.Saver(saver_def=saver_def, write_version=version).restore(session, checkpoint)
        return
    graph = session.graph
    nodes = {operation.name: operation for operation in graph.get_operations()}
    for name in tf.train.NewCheckpointReader(checkpoint).get_variable_to_shape_map():
        assign = nodes.get(f"{name}/Assign")
        if name in nodes and assign is not None:
            value = tf.train.load_variable(checkpoint, name)
            session.run(assign, {assign.inputs[1]: value})


def _read(path, message, binary):
    if not tf.gfile.Exists(path):
        raise tf.errors.NotFoundError(None, None, f"freeze_graph: there is no file {path!r}")
    with tf.gfile.GFile(path, "rb") as file:
        content = file.read()
    if binary:
        message.ParseFromString(content)
    else:
        text_format.Parse(content.decode("utf-8"), message)
    return message


def _names(text):
    return [name.strip() for name in text.split(",") if name.strip()]
