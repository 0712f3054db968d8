"""Sessions that begin where training stands: restored from a checkpoint, initialised, or waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.core import errors
from headrace.graph import default
from headrace.session import Session
from headrace.train import checkpoint_management as management

_logger = logging.getLogger("tensorflow")


@export("train.SessionManager")
class SessionManager:
    """Makes sessions whose model is ready: from a checkpoint, by init operations, or by another process.

    local_init_op: run in every session after `ready_for_local_init_op` has found nothing missing. ready_op and
    ready_for_local_init_op: give the names of what is not initialised; none: the model is ready. graph: the default graph
    where None. recovery_wait_secs: how long to wait between two looks. local_init_run_options: for the
    run of `local_init_op`.
    Raises ValueError: a ready_for_local_init_op without a local_init_op.
    """

    def __init__(
        self,
        local_init_op: Any = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        graph: Any = None,
        recovery_wait_secs: float = 30,
        local_init_run_options: Any = None,
    ) -> None:
        if ready_for_local_init_op is not None and local_init_op is None:
            raise ValueError(
                "If you pass a ready_for_local_init_op you must also pass a local_init_op "
                f"(ready_for_local_init_op: {ready_for_local_init_op})"
            )
        self._graph = default.get_default_graph() if graph is None else graph
        self._local_init_op, self._ready_op = local_init_op, ready_op
        self._ready_for_local_init_op = ready_for_local_init_op
        self._recovery_wait_secs = recovery_wait_secs
        self._local_init_run_options = local_init_run_options

    def prepare_session(
        self,
        master: str,
        init_op: Any = None,
        saver: Any = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = 7200,
        config: Any = None,
        init_feed_dict: Any = None,
        init_fn: Callable[[Session], Any] | None = None,
    ) -> Session:
        """A session that is ready: restored by `saver` if there is a checkpoint, else by `init_op` and `init_fn(session)`.

        Raises RuntimeError: no checkpoint and nothing to initialise with, or the model is not ready after it. ValueError:
        a directory and a file are given.
        """
        sess, restored = self._restored(
            master,
            saver,
            checkpoint_dir,
            checkpoint_filename_with_path,
            wait_for_checkpoint,
            max_wait_secs,
            config,
        )
        if not restored:
            if init_op is None and init_fn is None and self._local_init_op is None:
                raise RuntimeError(
                    "Model is not initialized and no init_op or init_fn or local_init_op was given"
                )
            if init_op is not None:
                sess.run(init_op, feed_dict=init_feed_dict)
            if init_fn is not None:
                init_fn(sess)
        given = f"Init op: {_name(init_op)}, init fn: {init_fn}"
        missing = self._run_local_init(sess)
        if missing is not None:
            raise RuntimeError(
                f"Init operations did not make model ready for local_init. {given}, error: {missing}"
            )
        missing = self._missing(self._ready_op, sess, "Model not ready")
        if missing is not None:
            raise RuntimeError(
                f"Init operations did not make model ready. {given}, "
                f"local_init_op: {_name(self._local_init_op)}, error: {missing}"
            )
        return sess

    def recover_session(
        self,
        master: str,
        saver: Any = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = 7200,
        config: Any = None,
    ) -> tuple[Session, bool]:
        """A session, and whether it was restored from a checkpoint and is ready now.

        Raises ValueError: a directory and a file are given.
        """
        sess, restored = self._restored(
            master,
            saver,
            checkpoint_dir,
            checkpoint_filename_with_path,
            wait_for_checkpoint,
            max_wait_secs,
            config,
        )
        missing = self._run_local_init(sess)
        if not restored:
            return sess, False
        source = checkpoint_dir or checkpoint_filename_with_path
        if missing is None:
            missing = self._missing(self._ready_op, sess, "Model not ready")
        if missing is not None:
            _logger.info("Restoring model from %s did not make model ready: %s", source, missing)
            return sess, False
        _logger.info("Restored model from %s", source)
        return sess, True

    def wait_for_session(
        self, master: str, config: Any = None, max_wait_secs: float | None = float("inf")
    ) -> Session:
        """A session on a model that another process initialises, once it is ready.

        Raises DeadlineExceededError: it is not after `max_wait_secs`.
        """
        limit = float("inf") if max_wait_secs is None else max_wait_secs
        end = time.monotonic() + limit
        while True:
            sess = Session(master, graph=self._graph, config=config)
            missing = self._run_local_init(sess)
            if missing is None:
                missing = self._missing(self._ready_op, sess, "Model not ready")
            if missing is None:
                return sess
            sess.close()
            if max(0.0, end - time.monotonic()) < self._recovery_wait_secs:
                raise errors.DeadlineExceededError(
                    None, None, f"Session was not ready after waiting {limit:g} secs: {missing}"
                )
            _logger.info("Waiting for model to be ready: %s", missing)
            time.sleep(self._recovery_wait_secs)

    def _restored(
        self,
        master: str,
        saver: Any,
        folder: str | None,
        filename: str | None,
        wait: bool,
        max_wait_secs: float,
        config: Any,
    ) -> tuple[Session, bool]:
        """A new session, and whether a checkpoint was there that it was restored from."""
        if folder and filename:
            raise ValueError(
                "Can not provide both checkpoint_dir and checkpoint_filename_with_path."
            )
        sess = Session(master, graph=self._graph, config=config)
        if saver is None or not (folder or filename):
            return sess, False
        if filename:
            saver.restore(sess, filename)
            return sess, True
        waited = 0.0
        while True:
            state = management.get_checkpoint_state(folder)
            if state is not None and state.model_checkpoint_path:
                break
            if not wait or waited >= max_wait_secs:
                return sess, False
            _logger.info("Waiting for checkpoint to be available.")
            time.sleep(self._recovery_wait_secs)
            waited += self._recovery_wait_secs
        saver.restore(sess, state.model_checkpoint_path)
        saver.recover_last_checkpoints(list(state.all_model_checkpoint_paths))
        return sess, True

    def _run_local_init(self, sess: Session) -> str | None:
        """Runs the local init operation where the model is ready for it; what is missing where it is not."""
        if self._local_init_op is None:
            return None
        missing = self._missing(
            self._ready_for_local_init_op, sess, "Model not ready for local init"
        )
        if missing is None:
            sess.run(
                self._local_init_op,
                options=self._local_init_run_options,
            )
        return missing

    @staticmethod
    def _missing(op: Any, sess: Session, what: str) -> str | None:
        """What `op` finds uninitialised; None: nothing.

        Raises FailedPreconditionError: it failed for another reason.
        """
        if op is None:
            return None
        try:
            value = sess.run(op)
        except errors.FailedPreconditionError as error:
            if "uninitialized" not in str(error):
                _logger.warning("%s: error [%s]", what, error)
                raise
            return str(error)
        # An operation has no value; whoever gives numbers says that all is well by not failing.
        if value is None or value.dtype == np.int32 or value.size == 0:
            return None
        return "Variables not initialized: " + ", ".join(name.decode() for name in value)


def _name(op: Any) -> str:
    return "None" if op is None else getattr(op, "name", f"<no name for {type(op)}>")
