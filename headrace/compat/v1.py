"""`tf.compat.v1`: the names of `tf` itself, since TensorFlow 1.x is what Headrace is."""

import importlib
import sys


def __getattr__(name):
    if name == "__path__":  # a plain module: nothing lies below it in files
        raise AttributeError(name)
    headrace = sys.modules.get("headrace") or importlib.import_module("headrace")
    return getattr(headrace, name)


def __dir__():
    return dir(sys.modules["headrace"])
