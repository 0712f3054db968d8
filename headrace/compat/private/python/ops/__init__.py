"""Private names of `tensorflow.python.ops` that programs use and that have no public one."""
