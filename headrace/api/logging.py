"""`tf.logging`: the logger `tensorflow` of Python's logging, and the functions that write to it."""

from __future__ import annotations

import collections
import functools
import logging
import sys
from typing import Any

from headrace.api.export import export, export_value

for _level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
    export_value(getattr(logging, _level), f"logging.{_level}")

_counts: collections.Counter[tuple[str, int]] = collections.Counter()


class _Handler(logging.StreamHandler):
    """Writes to stderr as it is at the time, unless the program has set up Python's logging itself.

    TF differs: it decides once, so that a program which calls `app.run` sees every line twice.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


@export("get_logger")
@functools.cache
def get_logger() -> logging.Logger:
    """Returns the logger that `tf.logging` writes to: level WARN, lines like `INFO:tensorflow:text`."""
    logger = logging.getLogger("tensorflow")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    handler = _Handler()
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    logger.addHandler(handler)
    return logger


@export("logging.log")
def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at `level`."""
    kwargs.setdefault("stacklevel", 2)
    get_logger().log(level, msg, *args, **kwargs)


@export("logging.debug")
def debug(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at level DEBUG."""
    log(logging.DEBUG, msg, *args, stacklevel=3, **kwargs)


@export("logging.info")
def info(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at level INFO."""
    log(logging.INFO, msg, *args, stacklevel=3, **kwargs)


@export("logging.warn", "logging.warning")
def warning(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at level WARN."""
    log(logging.WARNING, msg, *args, stacklevel=3, **kwargs)


@export("logging.error")
def error(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at level ERROR."""
    log(logging.ERROR, msg, *args, stacklevel=3, **kwargs)


@export("logging.fatal")
def fatal(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at level FATAL; the program goes on."""
    log(logging.CRITICAL, msg, *args, stacklevel=3, **kwargs)


@export("logging.vlog")
def vlog(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` at the number `level`."""
    log(level, msg, *args, stacklevel=3, **kwargs)


@export("logging.TaskLevelStatusMessage")
def task_level_status_message(msg: Any) -> None:
    """Writes `msg` at level ERROR."""
    log(logging.ERROR, msg, stacklevel=3)


@export("logging.log_if")
def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Writes `msg % args` if `condition`."""
    if condition:
        log(level, msg, *args, stacklevel=3)


@export("logging.log_every_n")
def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Writes the first, the n-th after it, ... of the calls from one line of the program."""
    if _times_called() % n == 0:
        log(level, msg, *args, stacklevel=3)


@export("logging.log_first_n")
def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Writes the first `n` of the calls from one line of the program."""
    if _times_called() < n:
        log(level, msg, *args, stacklevel=3)


def _times_called() -> int:
    """How often the line that called our caller has done so before."""
    frame = sys._getframe(2)
    place = (frame.f_code.co_filename, frame.f_lineno)
    _counts[place] += 1
    return _counts[place] - 1


@export("logging.get_verbosity")
def get_verbosity() -> int:
    """Returns the level below which nothing is written."""
    return get_logger().getEffectiveLevel()


@export("logging.set_verbosity")
def set_verbosity(v: int | str) -> None:
    """Sets the level below which nothing is written."""
    get_logger().setLevel(v)


@export("logging.flush")
def flush() -> None:
    """Hands on what is buffered."""
    for handler in get_logger().handlers:
        handler.flush()
