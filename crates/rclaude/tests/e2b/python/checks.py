"""Runs checks one after the other and tells which failed, and how."""

import sys
import time
import traceback

CHECKS = []


def check(function):
    """Registers a check; its name is the sentence that it proves."""
    CHECKS.append(function)
    return function


def raises(kind, call, *words):
    """The exception of this kind that `call` ends in, which says these words."""
    try:
        value = call()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return error
    raise AssertionError(f"{kind.__name__} was expected, not {value!r}")


def until(probe, seconds=20):
    """What `probe` comes to once that is something; looks again and again."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def run(*arguments):
    """Runs all checks, or those that the command line names."""
    wanted = sys.argv[1:]
    failed = 0
    for function in CHECKS:
        if wanted and function.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            function(*arguments)
            print(f"ok   {time.monotonic() - began:6.2f} s  {function.__name__}")
        except BaseException:
            failed += 1
            print(f"FAIL {time.monotonic() - began:6.2f} s  {function.__name__}")
            traceback.print_exc()
        sys.stdout.flush()
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)
