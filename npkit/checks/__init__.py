"""Checks: one module per notebook; each check takes a student's function and names the slip it shows."""
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

NO_RETURN = "your function returned None: did you forget return?"
CHANGES = "your function changes its arguments: +=, sort() and the like work in place, so make a copy first"
NO_GRADIENT = "the loss must carry a gradient: no detach, no item"


def exercise(check: Callable) -> Callable:
    """Make of `check` one that says "to do" of a stub, and whose student's function is watched.

    The function must return something and leave its arguments. The number is the one in the check's docstring.
    """
    number = re.match(r"Exercise (\d\.\d+)\.", check.__doc__)[1]

    @wraps(check)
    def watching(student: Callable) -> str:
        try:
            return check(watched(student))
        except NotImplementedError:  # what a stub raises
            return f"{number} to do"
    return watching


def watched(student: Callable) -> Callable:
    """Return the student's function; it raises AssertionError where it gives None or changes an argument."""
    @wraps(student)
    def asked(*arguments: Any) -> Any:
        before = copied(arguments)
        try:
            got = student(*arguments)
        except RuntimeError as error:
            assert "in-place" not in str(error), CHANGES  # of a tensor that carries a gradient
            raise
        assert same(arguments, before), CHANGES
        assert got is not None, NO_RETURN
        return got
    return asked


def copied(value: Any) -> Any:
    """Return a copy of an array, a tensor, or a list, tuple or dictionary of such; anything else as it is."""
    if hasattr(value, "detach"):
        return value.detach().clone()
    if hasattr(value, "shape"):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return {key: copied(each) for key, each in value.items()} if type(value) is dict else value


def same(value: Any, before: Any) -> bool:
    """Say whether a value is still what its copy holds."""
    if hasattr(value, "shape"):
        return value.shape == before.shape and bool((value == before).all())
    if type(value) in (list, tuple):
        return len(value) == len(before) and all(map(same, value, before))
    if type(value) is dict:
        return list(value) == list(before) and all(same(value[key], before[key]) for key in before)
    return value is before or value == before


def gradients(loss: Any, *inputs: Any) -> list:
    """Return the gradient of a loss by each of `inputs`, or raise AssertionError where there is none."""
    assert loss.requires_grad, NO_GRADIENT
    loss.backward()
    assert all(each.grad is not None for each in inputs), NO_GRADIENT
    return [each.grad for each in inputs]
