"""Event files, the logs that TensorBoard reads: TFRecords of Event messages."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from headrace.io.file_io import recursive_create_dir
from headrace.io.local_files import data_loss, local_path
from headrace.io.tf_record import RecordReader, TFRecordWriter

FILE_VERSION = "brain.Event:2"


class EventsWriter:
    """Writes events to one file, made at the first event, without a thread or a queue."""

    def __init__(self, file_prefix: str | bytes | os.PathLike, filename_suffix: str = ""):
        self._prefix = local_path(file_prefix)
        self._suffix = filename_suffix
        self._writer: TFRecordWriter | None = None
        self.path = ""

    def open(self) -> None:
        """Makes the file, with the event that states its version, if there is none."""
        if self._writer is not None:
            return
        seconds = int(time.time())
        while True:
            path = (
                f"{self._prefix}.out.tfevents.{seconds:010d}.{socket.gethostname()}{self._suffix}"
            )
            # TF differs: it empties the file of a writer that was opened in the same second.
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
                break
            except FileExistsError:
                seconds += 1
            except OSError:
                # The writer meets it too, and reports it.
                break
        self._writer = TFRecordWriter(path)
        self.path = path
        self.write(Event(wall_time=seconds, file_version=FILE_VERSION))
        self._writer.flush()

    def write(self, event: Event) -> None:
        """Appends an event."""
        self.open()
        assert self._writer is not None
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Closes the file; a further event begins a new one."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class EventFileWriter:
    """Writes events from a queue, on a thread, so that who adds one does not wait for the disk."""

    def __init__(
        self,
        logdir: str | bytes | os.PathLike,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str | None = None,
    ):
        """Makes the directory and, in it, the file.

        max_queue: how many events wait at most before `add_event` does.
        flush_secs: how often the file is flushed, in seconds.
        """
        self._logdir = os.fsdecode(logdir)
        self._flush_secs = flush_secs
        recursive_create_dir(self._logdir)
        self._events = EventsWriter(
            os.path.join(local_path(self._logdir), "events"), filename_suffix or ""
        )
        self._events.open()
        # Guards the file, which the thread writes and any thread may flush.
        self._lock = threading.Lock()
        self._queue: queue.Queue[Event | None] = queue.Queue(max_queue)
        self._failure: BaseException | None = None
        self._closed = True
        self.reopen()

    def get_logdir(self) -> str:
        """Returns the directory of the file."""
        return self._logdir

    def reopen(self) -> None:
        """After `close`, takes events again, into a new file; else does nothing."""
        if self._closed:
            self._closed = False
            self._thread = threading.Thread(
                target=self._write_queued, name="headrace-event-writer", daemon=True
            )
            self._thread.start()

    def add_event(self, event: Event) -> None:
        """Queues an event; drops it where the writer is closed."""
        if not self._closed:
            self._raise_failure()
            self._queue.put(event)

    def flush(self) -> None:
        """Returns when all events queued so far are in the file.

        Raises what writing one raised, such as ResourceExhaustedError for a full disk.
        """
        self._queue.join()
        self._raise_failure()
        with self._lock:
            self._events.flush()

    def close(self) -> None:
        """Writes what is queued and closes the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        with self._lock:
            self._events.close()
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write_queued(self) -> None:
        # The first event is flushed at once, so that TensorBoard shows something.
        next_flush = 0.0
        while True:
            event = self._queue.get()
            try:
                if event is None:
                    return
                with self._lock:
                    self._events.write(event)
                    now = time.monotonic()
                    if now > next_flush:
                        self._events.flush()
                        next_flush = now + self._flush_secs
            except Exception as error:  # Whatever it is: `flush` waits for this thread.
                self._failure = error
            finally:
                self._queue.task_done()


def summary_iterator(path: str | bytes | os.PathLike) -> Iterator[Event]:
    """Yields the events of a file.  Raises NotFoundError; DataLossError: it is damaged."""
    with RecordReader(path) as reader:
        while True:
            offset = reader.offset
            record = reader.read()
            if record is None:
                return
            try:
                yield Event.FromString(record)
            except DecodeError as error:
                raise data_loss(
                    os.fsdecode(path), f"record at byte {offset}", "not an Event message"
                ) from error
