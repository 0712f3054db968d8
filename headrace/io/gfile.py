"""The names of `tf.gfile`."""

from headrace.io.file_io import FileIO
from headrace.io.file_io import copy as Copy
from headrace.io.file_io import create_dir as MkDir
from headrace.io.file_io import delete_file as Remove
from headrace.io.file_io import delete_recursively as DeleteRecursively
from headrace.io.file_io import file_exists as Exists
from headrace.io.file_io import get_matching_files as Glob
from headrace.io.file_io import is_directory as IsDirectory
from headrace.io.file_io import list_directory as ListDirectory
from headrace.io.file_io import recursive_create_dir as MakeDirs
from headrace.io.file_io import rename as Rename
from headrace.io.file_io import stat as Stat
from headrace.io.file_io import walk as Walk

__all__ = [
    "Copy",
    "DeleteRecursively",
    "Exists",
    "FastGFile",
    "GFile",
    "Glob",
    "IsDirectory",
    "ListDirectory",
    "MakeDirs",
    "MkDir",
    "Open",
    "Remove",
    "Rename",
    "Stat",
    "Walk",
]


class GFile(FileIO):
    """A file, opened when it is first read or written."""

    def __init__(self, name, mode="r"):
        super().__init__(name, mode)


class FastGFile(FileIO):
    """An older name of `GFile`."""

    def __init__(self, name, mode="r"):
        super().__init__(name, mode)


Open = GFile
