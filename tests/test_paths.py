"""Paths: whatever a user writes where a file or folder is meant, the answer is one sentence."""
import pytest

from npkit.__main__ import main

ODD = {"long": "a" * 5000, "long name": f"/tmp/{'a' * 300}.txt", "many folders": "/a" * 3000,
       "no such user": "~nobody0/x", "NUL": "a\0b", "a file as a folder": "/etc/passwd/x"}
COMMANDS = {"corpus": ["run", "--dry-run", "--set", "data.source={}.txt"],
            "keywords": ["run", "--dry-run", "--set", "neurologic.keywords={}"],
            "policy": ["run", "--dry-run", "--set", "policy.pretrained=/{}"],
            "expected": ["run", "--check", "{}"], "report": ["report", "{}"], "compare": ["compare", "{}", "b"],
            "own policy": ["optimize", "a fox", "--policy", "{}"],
            "picture": ["optimize", "a fox", "--policy", "none", "--out", "{}.png"]}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_path_is_one_sentence(capsys, npkit_home, name, command):
    assert main([word.format(ODD[name]) for word in COMMANDS[command]]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("npkit: ") and output.err.count("\n") == 1
    assert not npkit_home.exists()


def test_a_home_folder_that_nobody_has(capsys, monkeypatch):
    monkeypatch.setenv("NPKIT_HOME", "~nobody0/npkit")
    assert main(["cache"]) == 0
    assert "no score cache yet" in capsys.readouterr().out
