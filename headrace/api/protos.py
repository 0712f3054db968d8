"""The protocol messages that programs make and read: `tf.ConfigProto`, `tf.GraphDef`, `tf.Summary`, ..."""

from __future__ import annotations

from tensorboard.compat.proto import (
    attr_value_pb2,
    cluster_pb2,
    config_pb2,
    event_pb2,
    graph_pb2,
    meta_graph_pb2,
    node_def_pb2,
    saver_pb2,
    summary_pb2,
    tfprof_log_pb2,
)

from headrace.api.export import export_value

for _message, *_names in (
    (attr_value_pb2.AttrValue, "AttrValue"),
    (attr_value_pb2.NameAttrList, "NameAttrList"),
    (config_pb2.ConfigProto, "ConfigProto"),
    (config_pb2.GPUOptions, "GPUOptions"),
    (config_pb2.GraphOptions, "GraphOptions"),
    (config_pb2.OptimizerOptions, "OptimizerOptions"),
    (config_pb2.RunMetadata, "RunMetadata"),
    (config_pb2.RunOptions, "RunOptions"),
    (event_pb2.Event, "Event", "summary.Event"),
    (event_pb2.LogMessage, "LogMessage"),
    (event_pb2.SessionLog, "SessionLog", "summary.SessionLog"),
    (event_pb2.TaggedRunMetadata, "summary.TaggedRunMetadata"),
    (graph_pb2.GraphDef, "GraphDef"),
    (meta_graph_pb2.MetaGraphDef, "MetaGraphDef"),
    (meta_graph_pb2.TensorInfo, "TensorInfo"),
    (node_def_pb2.NodeDef, "NodeDef"),
    (saver_pb2.SaverDef, "train.SaverDef"),
    (cluster_pb2.ClusterDef, "train.ClusterDef"),
    (cluster_pb2.JobDef, "train.JobDef"),
    (summary_pb2.HistogramProto, "HistogramProto"),
    (summary_pb2.Summary, "Summary", "summary.Summary"),
    (summary_pb2.SummaryDescription, "summary.SummaryDescription"),
    (summary_pb2.SummaryMetadata, "SummaryMetadata"),
    (tfprof_log_pb2.OpLogProto, "profiler.OpLogProto"),
):
    export_value(_message, *_names)
