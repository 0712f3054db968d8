"""The file functions of tf.gfile and tf.io.gfile; what TensorFlow 1.15 answers is in the cases."""

import json
import os

import pytest

from headrace.core import errors
from headrace.io import atomic_write, file_io, gfile, gfile_v2
from headrace.io.local_files import AtomicFile, local_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/b", ".h"):
        os.makedirs(name)
    for name in ("f1", "f2", "a/x1", ".dot"):
        (tmp_path / name).touch()
    return str(tmp_path)


# What TensorFlow returned or raised in this folder.
ANSWERS = [
    (gfile.Glob, ("f*",), ["./f1", "./f2"]),
    (gfile.Glob, ("*",), ["./.dot", "./.h", "./a", "./f1", "./f2"]),
    (gfile.Glob, ("{}/*/x*",), ["{}/a/x1"]),
    (gfile.Glob, ("file://{}/f*",), ["file://{}/f1", "file://{}/f2"]),
    (gfile.Glob, ("/nonexist",), []),
    (gfile.Glob, ("f1",), ["./f1"]),
    (gfile.Glob, ("f[2-9]",), ["./f2"]),
    (gfile.Glob, ("f[!2-9]",), ["./f1"]),
    (gfile.Glob, ("f\\1",), ["./f1"]),
    (gfile.Glob, ("f\\*",), []),
    (gfile.Glob, ("a/",), []),
    (gfile.Glob, (["f1", "a/?"],), ["./f1", "a/b"]),
    (gfile.Glob, ("/nonexist/*",), errors.NotFoundError),
    # TF differs: InvalidArgumentError, and it leaves an empty file "q".
    (gfile.Copy, ("a", "q"), errors.FailedPreconditionError),
    (gfile.Copy, ("f1", "f2"), errors.AlreadyExistsError),
    (gfile.Copy, ("zz", "q"), errors.NotFoundError),
    (gfile.Remove, ("a",), errors.FailedPreconditionError),
    (gfile.Remove, ("zz",), errors.NotFoundError),
    (gfile.MkDir, ("a",), None),
    (gfile.MkDir, ("f1/r",), errors.FailedPreconditionError),
    (gfile.MkDir, ("q/r",), errors.NotFoundError),
    (gfile.MakeDirs, ("a/m/n",), None),
    (gfile.MakeDirs, ("a",), None),
    (gfile.MakeDirs, ("f1",), None),
    (gfile.MakeDirs, ("f1/x",), errors.FailedPreconditionError),
    (gfile.Stat, ("zz",), errors.NotFoundError),
    (gfile.IsDirectory, ("zz",), False),
    (gfile.IsDirectory, ("f1",), False),
    (gfile.IsDirectory, ("file://{}/a",), True),
    (gfile.Exists, ("f1",), True),
    (gfile.Exists, (b"f1",), True),
    (gfile.Exists, ("gs:/x",), False),
    (gfile.Exists, ("gs://bucket/x",), errors.UnimplementedError),
    (gfile.ListDirectory, ("f1",), errors.NotFoundError),
    (gfile.DeleteRecursively, ("f2",), errors.FailedPreconditionError),
    (gfile.DeleteRecursively, ("zz",), errors.NotFoundError),
    (gfile.Rename, ("f1", "f2"), errors.AlreadyExistsError),
    (gfile.Rename, ("f1", "a", True), errors.FailedPreconditionError),
    (gfile.Rename, ("zz", "q"), errors.NotFoundError),
]


@pytest.mark.parametrize("function, arguments, answer", ANSWERS)
def test_answers_of_tensorflow(folder, function, arguments, answer):
    def here(value):
        return json.loads(json.dumps(value).replace("{}", folder))

    arguments = [a if isinstance(a, bytes) else here(a) for a in arguments]
    if isinstance(answer, type):
        with pytest.raises(answer):
            function(*arguments)
    else:
        assert function(*arguments) == here(answer)


def test_walks(folder):
    walked = [
        (top, sorted(dirs), sorted(files)) for top, dirs, files in gfile.Walk("file://" + folder)
    ]
    root = "file://" + folder
    assert walked[0] == (root, [".h", "a"], [".dot", "f1", "f2"])
    assert sorted(walked[1:]) == [
        (f"{root}/.h", [], []),
        (f"{root}/a", ["b"], ["x1"]),
        (f"{root}/a/b", [], []),
    ]
    assert [top for top, _, _ in gfile.Walk("a", in_order=False)] == ["a/b", "a"]
    assert list(gfile.Walk("zz")) == []
    seen = []
    assert list(gfile_v2.walk("zz", onerror=seen.append)) == []
    assert isinstance(seen[0], errors.NotFoundError)


def test_moving_copying_and_deleting(folder):
    gfile.MakeDirs("d/e")
    with gfile.GFile("d/e/x", "w") as file:
        file.write("content")
    os.chmod("d/e/x", 0o640)
    gfile.Copy("d/e/x", "d/y")
    assert os.stat("d/y").st_mode & 0o777 == 0o640
    gfile.Copy("d/y", "d/y", overwrite=True)
    gfile.Rename("d/y", "f1", overwrite=True)
    assert file_io.read_file_to_string("f1") == "content"
    status = gfile.Stat("f1")
    assert (status.length, status.is_directory) == (7, False)
    assert status.mtime_nsec == os.stat("f1").st_mtime_ns
    assert gfile.Stat("d").is_directory
    assert file_io.filecmp("f1", "d/e/x") and not file_io.filecmp("f1", "f2")
    assert file_io.file_crc32("f1") == "0xfec530a9"
    gfile.DeleteRecursively("d")
    assert not gfile.Exists("d")


def test_version_two_names(folder):
    gfile_v2.makedirs("d/e")
    gfile_v2.mkdir("d/f")
    with gfile_v2.GFile("d/e/x", "w") as file:
        file.write("1")
    gfile_v2.copy("d/e/x", "d/y")
    gfile_v2.rename("d/y", "d/z")
    assert gfile_v2.exists("d/z") and gfile_v2.isdir("d/e") and gfile_v2.stat("d/z").length == 1
    assert sorted(gfile_v2.listdir("d")) == ["e", "f", "z"]
    assert gfile_v2.glob("d/?") == ["d/e", "d/f", "d/z"]
    assert next(gfile_v2.walk("d"))[2] == ["z"]
    gfile_v2.remove("d/z")
    gfile_v2.rmtree("d")
    assert not gfile_v2.exists("d")


def test_reading_lines_and_positions(folder):
    with gfile.GFile("f1", "w") as file:
        file.write("a\r\nb\n")
        file.write("c")
    file = gfile.Open("f1")
    assert [file.readline(), file.tell()] == ["a\n", 3]
    assert (file.read(2), file.read(), file.read(3), file.readline()) == ("b\n", "c", "", "")
    with pytest.raises(errors.OutOfRangeError, match="reached end of file"):
        file.seek(100)
    with pytest.raises(errors.InvalidArgumentError, match="negative position: -1"):
        file.seek(-1)
    with pytest.raises(errors.InvalidArgumentError, match="whence"):
        file.seek(0, 3)
    with pytest.raises(TypeError):
        file.seek()
    with pytest.raises(TypeError):
        file.seek(offset=0, position=0)
    file.seek(position=3)
    assert list(file) == ["b\n", "c"]
    file.seek(-file.size(), 2)
    file.seek(3, 1)
    assert file.readlines() == ["b\n", "c"]
    assert next(iter(gfile.FastGFile("f1", "rb"))) == b"a\n"
    # Closed, it opens again where it is used again.
    file.close()
    assert file.read(1) == "a" and file.seekable() and file.name == "f1" and file.mode == "r"
    file.close()


def test_modes(folder):
    for mode in ("x", "", "rw", "w++"):
        with pytest.raises(errors.InvalidArgumentError, match="mode is not"):
            gfile.GFile("f1", mode)
    with pytest.raises(errors.PermissionDeniedError, match="open for writing"):
        gfile.GFile("f1").write("x")
    with pytest.raises(errors.PermissionDeniedError, match="open for reading"):
        gfile.GFile("f1", "w").read()
    with pytest.raises(errors.NotFoundError):
        gfile.GFile("zz").read()
    with pytest.raises(errors.NotFoundError):
        gfile.GFile("").read()
    with pytest.raises(errors.FailedPreconditionError):
        gfile.GFile("a").read()
    with pytest.raises(errors.NotFoundError):
        gfile.GFile("zz/x", "w").write("x")
    with pytest.raises(TypeError, match="Expected binary or unicode string, got 5"):
        gfile.GFile("new", "w").write(5)
    gfile.GFile("never written", "w").close()
    assert not gfile.Exists("never written")
    with gfile.GFile("f2", "w+") as file:
        file.write("hé")
        file.flush()
        assert file.read() == "hé" and file.size() == 3
    assert gfile.GFile("f2", "rb").read() == b"h\xc3\xa9"
    with pytest.raises(UnicodeDecodeError):
        gfile.GFile("f2").read(2)
    with gfile.GFile("f2", "a+") as file:
        file.write(b"!")
        file.flush()
        assert file.read() == "hé!"
    with gfile.GFile("f2", "a") as file:
        assert file.tell() == 4


def test_atomic_writes(folder, monkeypatch):
    atomic_write("f1", b"one")
    file_io.atomic_write_string_to_file("f1", "two")
    with pytest.raises(errors.AlreadyExistsError, match="file already exists"):
        file_io.atomic_write_string_to_file("f1", "three", overwrite=False)
    file_io.atomic_write_string_to_file("f3", b"three", overwrite=False)
    assert file_io.read_file_to_string("f1", binary_mode=True) == b"two"
    with pytest.raises(errors.NotFoundError):
        atomic_write("zz/x", b"")
    with pytest.raises(errors.FailedPreconditionError):
        atomic_write("a", b"x")
    # It fails before the file is in place: the old content stays, and nothing else.
    before = sorted(os.listdir("."))

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(errors.ResourceExhaustedError, match="No space left"):
        atomic_write("f1", b"four")
    with pytest.raises(RuntimeError), AtomicFile("f1") as file:
        file.write(b"five")
        raise RuntimeError
    assert sorted(os.listdir(".")) == before
    assert file_io.read_file_to_string("f1") == "two"


def test_local_paths():
    assert local_path("file:///x/y") == local_path("file://host/x/y") == local_path(b"/x/y")
    assert local_path("C:/x") == "C:/x" and local_path("a//b") == "a//b"
    with pytest.raises(errors.UnimplementedError, match="scheme 's3' not implemented"):
        local_path("s3://bucket/key")
