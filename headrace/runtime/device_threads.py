"""The threads that run the parts of steps: one for each device, and as many as are needed for the host.

What a device runs never waits for another part of a step, so one thread for each is enough and none can be blocked for
ever. An operation of the host may wait (for a queue to fill, for a user's function): each finds a thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

Task = Callable[[], None]

_IDLE_SECONDS = 30.0
_devices: dict[Any, queue.SimpleQueue[Task]] = {}
_host: queue.SimpleQueue[Task] = queue.SimpleQueue()
_idle = 0
_lock = threading.Lock()


def submit_to_device(name: str, physical: Any, task: Task) -> None:
    """Runs `task` in the thread of a device, after what it was given before."""
    found = _devices.get((name, physical))
    if found is None:
        with _lock:
            found = _devices.get((name, physical))
            if found is None:
                found = _devices[name, physical] = queue.SimpleQueue()
                label = name.rpartition("device:")[2]
                threading.Thread(
                    target=_serve_device, args=(found,), name=f"headrace {label}", daemon=True
                ).start()
    found.put(task)


def submit_to_host(task: Task) -> None:
    """Runs `task` in a thread of the host that is free, or in a new one."""
    global _idle
    with _lock:
        if _idle:
            _idle -= 1
            start = False
        else:
            start = True
    if start:
        threading.Thread(
            target=_serve_host, args=(task,), name="headrace host", daemon=True
        ).start()
    else:
        _host.put(task)


def _serve_device(tasks: queue.SimpleQueue[Task]) -> None:
    while True:
        tasks.get()()


def _serve_host(task: Task) -> None:
    global _idle
    while True:
        task()
        del task  # nothing of a finished step is kept
        with _lock:
            _idle += 1
        try:
            task = _host.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with _lock:
                if _idle:
                    _idle -= 1
                    return
            task = _host.get()  # promised to an idle thread just now
