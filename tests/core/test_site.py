"""Creation sites: the right line, no frame kept alive, and cheap enough for every operation."""

import gc
import pickle
import timeit
import weakref

from headrace.core import site

LIBRARY = """
def library_call(site):
    return inner(site)
def inner(site):
    return site.capture("/library/"), site.capture_stack()
"""
library = {}
exec(compile(LIBRARY, "/library/code.py", "exec"), library)


def user_code():
    return library["library_call"](site)


def test_innermost_place_outside_the_library():
    place, stack = user_code()
    assert (place.filename, place.function) == (__file__, "user_code")
    assert place.lineno == user_code.__code__.co_firstlineno + 1
    assert place.line == 'return library["library_call"](site)'
    assert str(place) == f"{__file__}:{place.lineno}, in user_code"
    assert str(site.site_of(stack, "/library/")) == str(place)
    assert site.site_of(()) is None
    twin = pickle.loads(pickle.dumps(place))
    assert str(twin) == str(place) and twin.line == place.line


def test_stack_is_outermost_first():
    _, stack = user_code()
    lines = site.format_stack(stack)
    assert [line[2] for line in lines[-4:]] == [
        "test_stack_is_outermost_first", "user_code", "library_call", "inner",
    ]  # fmt: skip
    assert lines[-1][:2] == ("/library/code.py", 5)
    assert lines[-3] == (
        __file__, user_code.__code__.co_firstlineno + 1, "user_code",
        'return library["library_call"](site)',
    )  # fmt: skip


def test_everything_in_the_package_gives_the_outermost_place():
    place = site.capture("")
    assert place.filename != __file__


def test_the_package_is_skipped():
    assert site.capture().filename == __file__
    assert site.__file__.startswith(site.PACKAGE_PREFIX)


class Local:
    pass


def test_locals_die():
    def make():
        local = Local()
        return weakref.ref(local), user_code()

    ref, _kept = make()
    gc.collect()
    assert ref() is None


def test_cost():
    def deep(n):
        return deep(n - 1) if n else min(timeit.repeat(site.capture, number=2000, repeat=5)) / 2000

    assert deep(30) < 4e-6
