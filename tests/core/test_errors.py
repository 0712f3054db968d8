"""Errors: a class per code, the creation site in the text, and the way through a pickle."""

import pickle
from types import SimpleNamespace

import pytest

from headrace.core import errors

CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9,
    "ABORTED": 10, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14,
    "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_class_of_code(name):
    code = getattr(errors, name)
    cls = getattr(
        errors, "".join(w.capitalize() for w in name.split("_")).removesuffix("Error") + "Error"
    )
    assert code == CODES[name]
    assert errors.exception_type_from_error_code(code) is cls
    assert errors.error_code_from_exception_type(cls) == code
    error = errors.make_error("node", None, "text", code)
    assert type(error) is cls and isinstance(error, errors.OpError)
    assert (error.node_def, error.op, error.message, error.error_code) == (
        "node",
        None,
        "text",
        code,
    )
    assert error.args == () and str(error) == "text"
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is cls and (twin.message, twin.error_code) == ("text", code)


def test_unknown_codes_and_classes_warn():
    with pytest.warns(UserWarning, match="Unknown error code: 37"):
        error = errors.make_error(None, None, "m", 37)
    assert type(error) is errors.UnknownError and error.error_code == 37
    assert pickle.loads(pickle.dumps(error)).error_code == 37
    with pytest.warns(UserWarning, match="Unknown class exception"):
        errors.error_code_from_exception_type(KeyError)
    with pytest.raises(KeyError):
        errors.exception_type_from_error_code(37)


def test_text_names_the_creation_site():
    site = SimpleNamespace(filename="train.py", lineno=41, function="build")
    op = SimpleNamespace(name="enc/Cumsum", site=lambda: site)
    error = errors.InvalidArgumentError(None, op, "axis 5 is out of range.")
    assert str(error) == "axis 5 is out of range.\n  defined at train.py:41, in build"
    assert error.op is op
    without = errors.InvalidArgumentError(None, SimpleNamespace(site=lambda: None), "m")
    assert str(without) == "m"
    assert pickle.loads(pickle.dumps(error)).op is None
