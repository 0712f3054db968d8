"""Summaries of tensors: functions that add a node, name it and its tag, and file it in a collection."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format
from tensorboard.compat.proto import event_pb2, histogram_pb2, summary_pb2

from headrace.api.export import export, export_value
from headrace.api.framework import GraphKeys, name_scope
from headrace.core import dtypes
from headrace.distribute.context import get_replica_context
from headrace.graph import default, raw
from headrace.graph.convert import constant_from_value
from headrace.graph.tensor import Tensor

export_value(summary_pb2.Summary, "summary.Summary", "Summary")
export_value(summary_pb2.SummaryDescription, "summary.SummaryDescription")
export_value(event_pb2.Event, "summary.Event", "Event")
export_value(event_pb2.SessionLog, "summary.SessionLog", "SessionLog")
export_value(event_pb2.LogMessage, "LogMessage")
export_value(summary_pb2.SummaryMetadata, "SummaryMetadata")
export_value(histogram_pb2.HistogramProto, "HistogramProto")
export_value(event_pb2.TaggedRunMetadata, "summary.TaggedRunMetadata")

_ILLEGAL = re.compile(r"[^-/\w\.]")
_logger = logging.getLogger("tensorflow")


def clean_tag(name: str | None) -> str | None:
    """`name` with what a tag must not have replaced: other characters by "_", slashes in front by nothing."""
    if name is None:
        return None
    cleaned = _ILLEGAL.sub("_", name).lstrip("/")
    if cleaned != name:
        _logger.info("Summary name %s is illegal; using %s instead.", name, cleaned)
    return cleaned


@contextlib.contextmanager
def summary_scope(
    name: str, family: str | None = None, default_name: str | None = None, values: Any = None
) -> Iterator[tuple[str, str]]:
    """The block in which a summary is made; yields its tag, and the scope that is the name of its node.

    The tag is the node's name, so that tags are unique; a family goes before it, and into the node's name as well.
    """
    name, family = clean_tag(name), clean_tag(family)
    with name_scope(name if family is None else f"{family}/{name}", default_name, values) as scope:
        tag = scope.removesuffix("/")
        yield tag if family is None else f"{family}/{tag}", scope


def _collect(summary: Tensor, collections: Any, defaults: list[str]) -> Tensor:
    for key in defaults if collections is None else collections:
        default.get_default_graph().add_to_collection(key, summary)
    return summary


def _file(summary: Tensor, collections: Any) -> Tensor:
    return _collect(summary, collections, [GraphKeys.SUMMARIES])


def _of_first_replica(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of a summary that every replica of a strategy would make, only the first makes one; others give ""."""

    @functools.wraps(make)
    def function(*args: Any, **kwargs: Any) -> Tensor:
        replica = get_replica_context()
        if replica is not None and replica.index > 0:
            return constant_from_value("", dtypes.string, None)
        return make(*args, **kwargs)

    return function


@export("summary.scalar")
@_of_first_replica
def scalar(name: str, tensor: Any, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary with one number.

    name: of the node, and of the series in TensorBoard. tensor: a real scalar. collections: where to file the summary,
    [GraphKeys.SUMMARIES] where None. family: prefix of the tag, under which TensorBoard groups series.
    Returns the serialized Summary, a string scalar.
    """
    with summary_scope(name, family, values=[tensor]) as (tag, scope):
        return _file(raw.ScalarSummary(tag, tensor, name=scope), collections)


@export("summary.histogram")
@_of_first_replica
def histogram(name: str, values: Any, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary with the distribution of `values` (real, any shape); arguments as of `scalar`.

    Running it raises InvalidArgumentError: a value is not finite.
    """
    with summary_scope(name, family, "HistogramSummary", [values]) as (tag, scope):
        return _file(raw.HistogramSummary(tag, values, name=scope), collections)


@export("summary.image")
@_of_first_replica
def image(
    name: str, tensor: Any, max_outputs: int = 3, collections: Any = None, family: str | None = None
) -> Tensor:
    """A summary with up to max_outputs pictures; other arguments as of `scalar`.

    tensor: [batch, height, width, 1, 3 or 4], uint8 as it is, or floats that are scaled, each picture by itself: the
    largest value to 255, or, if there are negative ones, 0 to 128 and the largest magnitude to 127 more or less.
    The tags are `name/image/0`, ..., or `name/image` where max_outputs is 1.
    """
    with summary_scope(name, family, values=[tensor]) as (tag, scope):
        return _file(raw.ImageSummary(tag, tensor, max_images=max_outputs, name=scope), collections)


@export("summary.audio")
@_of_first_replica
def audio(
    name: str,
    tensor: Any,
    sample_rate: Any,
    max_outputs: int = 3,
    collections: Any = None,
    family: str | None = None,
) -> Tensor:
    """A summary with up to max_outputs sounds; other arguments as of `scalar`.

    tensor: [batch, frames] or [batch, frames, channels], floats in [-1, 1]. sample_rate: frames per second.
    The tags are `name/audio/0`, ..., or `name/audio` where max_outputs is 1.
    """
    with summary_scope(name, family, values=[tensor]) as (tag, scope):
        summary = raw.AudioSummaryV2(tag, tensor, sample_rate, max_outputs=max_outputs, name=scope)
        return _file(summary, collections)


@export("summary.text")
def text(name: str, tensor: Any, collections: Any = None) -> Tensor:
    """A summary with strings, which TensorBoard shows as Markdown, vectors and matrices as tables.

    tensor: strings. Raises ValueError: of another type.
    """
    if tensor.dtype.base_dtype != dtypes.string:
        raise ValueError(f"Expected tensor {tensor.name} to have dtype string, got {tensor.dtype}")
    metadata = summary_pb2.SummaryMetadata()
    metadata.plugin_data.plugin_name = "text"
    return tensor_summary(name, tensor, summary_metadata=metadata, collections=collections)


@export("summary.tensor_summary")
@_of_first_replica
def tensor_summary(
    name: str,
    tensor: Any,
    summary_description: str | None = None,
    collections: Any = None,
    summary_metadata: Any = None,
    family: str | None = None,
    display_name: str | None = None,
) -> Tensor:
    """A summary with a tensor of any type and shape; arguments as of `scalar`.

    summary_metadata: a SummaryMetadata, which says what plugin of TensorBoard shows it. summary_description,
    display_name: put into it.
    """
    metadata = summary_metadata or summary_pb2.SummaryMetadata()
    if summary_description is not None:
        metadata.summary_description = summary_description
    if display_name is not None:
        metadata.display_name = display_name
    with summary_scope(name, family, values=[tensor]) as (tag, scope):
        return _file(
            raw.TensorSummaryV2(tag, tensor, metadata.SerializeToString(), name=scope), collections
        )


@export("summary.merge")
@_of_first_replica
def merge(inputs: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """One summary with the values of several.

    inputs: a list of serialized summaries. collections: where to file it, nowhere where None.
    Running it raises InvalidArgumentError: two values have one tag.
    """
    name = clean_tag(name)
    with name_scope(name, "Merge", inputs):
        return _collect(raw.MergeSummary(inputs, name=name), collections, [])


@export("summary.merge_all")
def merge_all(
    key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None
) -> Tensor | None:
    """One summary with those of the collection `key`; None where there are none.

    scope: only those whose name matches it (`re.match`).
    """
    summaries = default.get_default_graph().get_collection(key, scope)
    return merge(summaries, name=name) if summaries else None


@export("summary.get_summary_description")
def get_summary_description(node_def: Any) -> Any:
    """The SummaryDescription in a `TensorSummary` node. Raises ValueError: a node of another type."""
    if node_def.op != "TensorSummary":
        raise ValueError(f"Can't get_summary_description on {node_def.op}")
    return json_format.Parse(
        node_def.attr["description"].s.decode(), summary_pb2.SummaryDescription()
    )
