"""Checks: the stub is "to do", the solution has "passed", and every known slip meets the hint that names it."""
import re
from importlib import import_module

import anatomy
import numpy as np
import pytest
import torch

from npkit import checks

EXERCISES = [exercise for path in anatomy.PATHS for exercise in anatomy.exercises(path)]
SLIPS = [pytest.param(exercise, slip, id=f"{exercise.stage}-{exercise.check}-{number}") for exercise in EXERCISES
         for number, slip in enumerate(anatomy.slips(exercise.stage).get(exercise.check, []))]
OTHER_FORMS = [  # of a solution's result: what a student may as well return
    ("check_unmix", "\n\ndef f(*given):\n    return list(right(*given))"),
    ("check_unmix", "\n\ndef f(*given):\n    return np.stack(right(*given))"),
    ("check_first_comma", "\n\ndef f(prompt):\n    return list(right(prompt))"),
    ("check_best_pair", "\n\ndef f(words):\n    return list(right(words))"),
    ("check_read_token", "\n\ndef f(*given):\n    return list(right(*given))"),
]


def name(exercise: anatomy.Exercise) -> str:
    return f"{exercise.stage}-{exercise.check}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_stub_is_to_do_and_solution_passes(exercise):
    assert anatomy.last_function(exercise.stub) == anatomy.last_function(exercise.solution) == exercise.function
    assert re.fullmatch(r"\d\.\d+ to do", exercise.judge(exercise.stub))
    assert exercise.judge(exercise.solution) == exercise.judge(exercise.stub).replace("to do", "passed")


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_forgotten_return_meets_its_hint(exercise):
    code, count = re.subn(r"raise NotImplementedError.*", "return None", exercise.stub)
    assert count == 1
    with pytest.raises(AssertionError) as caught:
        exercise.judge(code)
    assert "your function returned None: did you forget return?" in str(caught.value)


@pytest.mark.parametrize(("check", "code"), OTHER_FORMS)
def test_right_answer_in_another_form_passes(check, code):
    (exercise,) = (each for each in EXERCISES if each.check == check)
    assert exercise.judge(exercise.solution + "\nright = " + exercise.function + code).endswith("passed")


@pytest.mark.parametrize("before", [[3, 1], {"a": [1]}, np.ones(2), torch.ones(2), [torch.ones(2)]], ids=str)
def test_changed_argument_is_seen(before):
    def changes(value):
        found = value["a"] if isinstance(value, dict) else value
        found[0] = found[0] * 2
        return 1

    assert checks.watched(lambda value: 1)(before) == 1
    with pytest.raises(AssertionError, match="changes its arguments"):
        checks.watched(changes)(before)


@pytest.mark.parametrize(("exercise", "slip"), SLIPS)
def test_slip_meets_its_hint(exercise, slip):
    with pytest.raises(AssertionError) as caught:
        exercise.judge(slip["code"])
    assert slip["hint"] in str(caught.value)


@pytest.mark.parametrize("path", anatomy.PATHS, ids=lambda path: path.stem)
def test_every_check_is_used_and_has_a_known_slip(path):
    used = [exercise for exercise in EXERCISES if exercise.notebook == path.stem]
    assert len(used) >= 3
    (stage,) = {exercise.stage for exercise in used}
    defined = {name for name in vars(import_module(f"npkit.checks.{stage}")) if name.startswith("check_")}
    assert {exercise.check for exercise in used} == defined == set(anatomy.slips(stage))


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_exercise_is_rated(exercise):
    assert re.search(r"Difficulty [1-5]/5, importance [1-5]/5, \d+ minutes", exercise.rating)
    assert "raise NotImplementedError" in exercise.stub


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_exercise_has_three_graded_hints_before_its_solution(exercise):
    begin = [re.match(r"Hint \d|Solution", summary)[0] for summary in exercise.folded]
    assert begin == ["Hint 1", "Hint 2", "Hint 3", "Solution"]


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_exercise_is_used_afterwards(exercise):
    """`name = run.choose(name, ...)`: what the student wrote works in the cells below, where `use_mine` is True."""
    chosen = f"{exercise.function} = run.choose({exercise.function}, "
    assert any(line.startswith(chosen) for source in exercise.later for line in source.splitlines())
