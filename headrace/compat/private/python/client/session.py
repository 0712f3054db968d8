"""What `tensorflow.python.client.session` has besides public names."""

from headrace.session import BaseSession, InteractiveSession, Session
from headrace.session.devices import DeviceAttributes as _DeviceAttributes
from headrace.session.fetches import register_session_run_conversion_functions

__all__ = [
    "BaseSession",
    "InteractiveSession",
    "Session",
    "_DeviceAttributes",
    "register_session_run_conversion_functions",
]
