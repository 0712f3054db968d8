"""`tf.gfile`, `tf.io.gfile`, `tf.python_io`, `tf.resource_loader`: files, as the room `io` reads and writes them."""

from __future__ import annotations

import os
import sys

from headrace.api.export import export, export_op, export_value
from headrace.io import gfile, gfile_v2, tf_record

for _name in gfile.__all__:
    export_value(getattr(gfile, _name), f"gfile.{_name}")
for _name in gfile_v2.__all__:
    export_value(getattr(gfile_v2, _name), f"io.gfile.{_name}")
for _name in ("TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"):
    export_value(getattr(tf_record, _name), f"python_io.{_name}", f"io.{_name}")

export_op(
    "ReadFile",
    "filename",
    "read_file",
    "io.read_file",
    doc="The content of a file, a string scalar.",
)
export_op(
    "WriteFile",
    "filename, contents",
    "write_file",
    "io.write_file",
    doc="An operation that makes `contents` (a string scalar) the content of a file, in a directory made if need be.",
)
export_op(
    "MatchingFiles",
    "pattern",
    "matching_files",
    "io.matching_files",
    doc="The files that match a pattern (or any of several): a string vector, in the order of their names.",
)


@export("resource_loader.load_resource")
def load_resource(path: str) -> bytes:
    """Returns the content of a file beside the caller's.  Raises OSError: there is none."""
    with open(os.path.join(_folder_of_caller(), path), "rb") as file:
        return file.read()


@export("resource_loader.get_data_files_path")
def get_data_files_path() -> str:
    """Returns the folder of the caller's file."""
    return _folder_of_caller()


@export("resource_loader.get_path_to_datafile")
def get_path_to_datafile(path: str) -> str:
    """Returns the path of a file beside the caller's."""
    return os.path.join(_folder_of_caller(), path)


@export("resource_loader.get_root_dir_with_all_resources")
def get_root_dir_with_all_resources() -> str:
    """Returns the folder of the caller's file: nothing is packed into an archive here."""
    return _folder_of_caller()


@export("resource_loader.readahead_file_path")
def readahead_file_path(path: str, readahead: str = "128M") -> str:
    """Returns `path`."""
    del readahead  # a hint for a file system that Headrace does not have
    return path


def _folder_of_caller() -> str:
    return os.path.dirname(os.path.abspath(sys._getframe(2).f_code.co_filename))
