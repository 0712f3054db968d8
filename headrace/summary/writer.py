"""`tf.summary.FileWriter`: event files for TensorBoard."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from typing import Any

from tensorboard.compat.proto import event_pb2, graph_pb2, summary_pb2

from headrace.api.export import export
from headrace.graph import default, meta_graph
from headrace.graph.graph import Graph
from headrace.io import EventFileWriter

_logger = logging.getLogger("tensorflow")


class SummaryToEventTransformer:
    """Wraps summaries, graphs and metadata into events for a writer of events."""

    def __init__(self, event_writer: Any, graph: Any = None, graph_def: Any = None) -> None:
        """event_writer: has `add_event` and `get_logdir`. graph: written at once (graph_def: older name of it)."""
        self.event_writer = event_writer
        self._session_run_tags: set[str] = set()
        self._seen_summary_tags: set[str] = set()
        if graph is not None or graph_def is not None:
            self.add_graph(graph=graph, graph_def=graph_def)
            nodes = graph.as_graph_def(add_shapes=True) if isinstance(graph, Graph) else graph
            self.add_meta_graph(meta_graph.create_meta_graph_def(graph_def=graph_def or nodes))

    def add_summary(self, summary: Any, global_step: Any = None) -> None:
        """Adds a Summary, or a serialized one as running a summary operation gives it, under a step."""
        message = summary_pb2.Summary()
        if isinstance(summary, bytes):
            message.ParseFromString(summary)
        else:
            message.CopyFrom(summary)
        for value in message.value:
            # Metadata goes with the first value of a tag only: TensorBoard remembers it.
            if value.HasField("metadata") and value.tag in self._seen_summary_tags:
                value.ClearField("metadata")
            self._seen_summary_tags.add(value.tag)
        self._add_event(event_pb2.Event(summary=message), global_step)

    def add_session_log(self, session_log: Any, global_step: Any = None) -> None:
        """Adds a SessionLog: that a session started or stopped, or saved a checkpoint."""
        self._add_event(event_pb2.Event(session_log=session_log), global_step)

    def add_graph(self, graph: Any, global_step: Any = None, graph_def: Any = None) -> None:
        """Adds a Graph (or a GraphDef). Raises ValueError: both arguments given. TypeError: neither type."""
        if graph is not None and graph_def is not None:
            raise ValueError("Please pass only graph, or graph_def (deprecated), but not both.")
        given = graph if graph is not None else graph_def
        if isinstance(given, Graph):
            given = given.as_graph_def(add_shapes=True)
        elif isinstance(given, graph_pb2.GraphDef):
            _logger.warning(
                "Passing a `GraphDef` is deprecated. Pass a `Graph` object, such as `sess.graph`."
            )
        else:
            raise TypeError(
                "The passed graph must be an instance of `Graph` or the deprecated `GraphDef`"
            )
        self._add_event(event_pb2.Event(graph_def=given.SerializeToString()), global_step)

    def add_meta_graph(self, meta_graph_def: Any, global_step: Any = None) -> None:
        """Adds a MetaGraphDef. Raises TypeError: something else."""
        if not isinstance(meta_graph_def, meta_graph.MetaGraphDef):
            raise TypeError(
                f"meta_graph_def must be type MetaGraphDef, saw type: {type(meta_graph_def)}"
            )
        self._add_event(
            event_pb2.Event(meta_graph_def=meta_graph_def.SerializeToString()), global_step
        )

    def add_run_metadata(self, run_metadata: Any, tag: str, global_step: Any = None) -> None:
        """Adds what a run recorded of itself (RunMetadata). Raises ValueError: the tag was used before."""
        if tag in self._session_run_tags:
            raise ValueError("The provided tag was already used for this event type")
        self._session_run_tags.add(tag)
        tagged = event_pb2.TaggedRunMetadata(tag=tag, run_metadata=run_metadata.SerializeToString())
        self._add_event(event_pb2.Event(tagged_run_metadata=tagged), global_step)

    def _add_event(self, event: Any, step: Any) -> None:
        event.wall_time = time.time()
        if step is not None:
            event.step = int(step)
        self.event_writer.add_event(event)


@export("summary.FileWriter")
class FileWriter(SummaryToEventTransformer):
    """Writes summaries, graphs and events to a file in `logdir`, on a thread of its own.

    logdir: made where it does not exist. graph: written at once (graph_def: older name of it). max_queue: how many
    events may wait. flush_secs: how often the file is flushed. filename_suffix: end of the file's name. session:
    writers with the same session and logdir share one file.
    """

    def __init__(
        self,
        logdir: str | os.PathLike,
        graph: Any = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        graph_def: Any = None,
        filename_suffix: str | None = None,
        session: Any = None,
    ) -> None:
        self._closed = False
        if session is None:
            events = EventFileWriter(logdir, max_queue, flush_secs, filename_suffix)
        else:
            events = _shared_events(session, logdir, max_queue, flush_secs, filename_suffix)
        super().__init__(events, graph, graph_def)

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get_logdir(self) -> str:
        """The directory of the file."""
        return self.event_writer.get_logdir()

    def _warn_if_closed(self) -> None:
        if self._closed:
            warnings.warn(
                "Attempting to use a closed FileWriter. The operation will be a noop unless the FileWriter is "
                "explicitly reopened.",
                stacklevel=3,
            )

    def _add_event(self, event: Any, step: Any) -> None:
        self._warn_if_closed()
        super()._add_event(event, step)

    def add_event(self, event: Any) -> None:
        """Adds an Event."""
        self._warn_if_closed()
        self.event_writer.add_event(event)

    def flush(self) -> None:
        """Returns when everything added so far is in the file."""
        self._warn_if_closed()
        self.event_writer.flush()

    def close(self) -> None:
        """Flushes and closes the file; what is added later is lost unless `reopen` is called."""
        self.event_writer.close()
        self._closed = True

    def reopen(self) -> None:
        """Takes events again after `close`, into a new file in the same directory."""
        self.event_writer.reopen()
        self._closed = False


def _shared_events(
    session: Any, logdir: Any, max_queue: int, flush_secs: float, suffix: str | None
) -> Any:
    """The writer that all FileWriters of a session and directory share."""
    folder = os.fsdecode(logdir)
    return session._resources.get_or_make(
        ("event_writer", folder),
        lambda: EventFileWriter(folder, max_queue, flush_secs, suffix or ".v2"),
    )


@export("summary.FileWriterCache")
class FileWriterCache:
    """One FileWriter for each directory."""

    _cache: dict[str, FileWriter] = {}
    _lock = threading.RLock()

    @staticmethod
    def clear() -> None:
        """Closes and forgets all of them."""
        with FileWriterCache._lock:
            for writer in FileWriterCache._cache.values():
                writer.close()
            FileWriterCache._cache.clear()

    @staticmethod
    def get(logdir: str) -> FileWriter:
        """The writer for a directory, made with the default graph the first time."""
        with FileWriterCache._lock:
            if logdir not in FileWriterCache._cache:
                FileWriterCache._cache[logdir] = FileWriter(
                    logdir, graph=default.get_default_graph()
                )
            return FileWriterCache._cache[logdir]
