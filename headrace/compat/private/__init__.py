"""Modules that TensorFlow kept private or with its examples, and that programs imported all the same.

`tensorflow.python.client.timeline` is the file `python/client/timeline.py` below this one. A module is here only
where public names cannot make it up (those are a line of `private_names.txt`).
"""
