"""Checkpoints keyed by the objects that hold the variables (`tf.train.Checkpoint`), for a Saver that goes by names."""

from __future__ import annotations

import os
from typing import Any

from tensorboard.compat.proto import trackable_object_graph_pb2

from headrace.core import errors
from headrace.io import CheckpointReader
from headrace.train.saveable_object import SaveableObject, validate_and_slice_inputs

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def object_graph_key_mapping(checkpoint_path: str | os.PathLike) -> dict[str, str]:
    """The keys of a checkpoint by the names of the variables. Raises NotFoundError: it is not object-based."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(CheckpointReader(checkpoint_path).get_tensor(OBJECT_GRAPH_KEY))
    return {a.full_name: a.checkpoint_key for node in graph.nodes for a in node.attributes}


def rekeyed_saveables(names_to_keys: dict[str, str], variables: Any) -> list[SaveableObject]:
    """What saves `variables`, under the keys of an object-based checkpoint.

    Raises NotFoundError: the checkpoint lacks some of them.
    """
    saveables = validate_and_slice_inputs(variables)
    specs = [spec for saveable in saveables for spec in saveable.specs]
    names = {spec.name for spec in specs}
    missing, unused = names - names_to_keys.keys(), names_to_keys.keys() - names
    if missing:
        raise errors.NotFoundError(
            None,
            None,
            f"Existing variables not in the checkpoint: {', '.join(sorted(missing))}\n"
            f"Variables names when this checkpoint was written which don't exist now: {', '.join(sorted(unused))}\n"
            f"({len(names & names_to_keys.keys())} variable name(s) did match)\n"
            "The checkpoint was written by `tf.train.Checkpoint` or `save_weights`; restore it with these, or with a "
            "Saver whose var_list gives the variables the names that they had then.",
        )
    for spec in specs:
        spec.name = names_to_keys[spec.name]
    return saveables
