"""Files that appear whole: what is put on disk early, and errors of that."""

import errno
import os
import threading

import pytest

from headrace.core import errors
from headrace.io import local_files
from headrace.io.local_files import AtomicFile


@pytest.fixture
def synced(monkeypatch):
    """Every written byte asks for an early sync; the names of the threads that call `fsync`."""
    monkeypatch.setattr(local_files, "_SYNCED_EARLY", 1)
    threads = []
    fsync = os.fsync

    def noting(descriptor):
        threads.append(threading.current_thread().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    return threads


def test_a_long_file_is_on_disk_before_its_end(tmp_path, synced):
    parts = [bytes([i]) * (1 << 20) for i in range(20)]
    with AtomicFile(str(tmp_path / "file")) as file:
        for part in parts:
            file.write(part)
        assert "file sync" in synced
    assert synced[-2:] == ["MainThread"] * 2  # the file, its folder
    assert (tmp_path / "file").read_bytes() == b"".join(parts)
    assert os.listdir(tmp_path) == ["file"]
    assert not [t for t in threading.enumerate() if t.name == "file sync"]


def test_short_files_need_no_thread(tmp_path, synced, monkeypatch):
    monkeypatch.setattr(local_files, "_SYNCED_EARLY", 1 << 26)
    with AtomicFile(str(tmp_path / "file")) as file:
        file.write(b"short")
    assert "file sync" not in synced


def test_an_error_of_an_early_sync_is_the_files(tmp_path, monkeypatch):
    """The system tells of it once only: of the first call here."""
    monkeypatch.setattr(local_files, "_SYNCED_EARLY", 1)
    fsync, calls = os.fsync, []

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(errors.ResourceExhaustedError, match="No space left"):
        with AtomicFile(str(tmp_path / "file")) as file:
            file.write(b"some")
    assert calls and os.listdir(tmp_path) == []


def test_a_file_that_is_given_up_waits_for_its_thread(tmp_path, synced):
    with pytest.raises(KeyError):
        with AtomicFile(str(tmp_path / "file")) as file:
            file.write(b"some")
            raise KeyError("given up")
    assert os.listdir(tmp_path) == []
    assert not [t for t in threading.enumerate() if t.name == "file sync"]
