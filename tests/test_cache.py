"""Reward cache: kept over kills, shared by processes at once, readable after a full disk, measured and emptied."""
import subprocess
import sys
import time

import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.scoring.cache import ScoreCache, cache_path, shared_cache, size_report

WRITER = """
import sys
from npkit.scoring.cache import ScoreCache
path, name = sys.argv[1:]
cache = ScoreCache(path)
for number in range(150):
    cache.put(name, [(f"{name} {number}", float(number)), (f"shared {number}", float(number))])
    assert cache.get(f"shared {number}") == number
"""
ENDLESS = """
import sys, itertools
from npkit.scoring.cache import ScoreCache
cache = ScoreCache(sys.argv[1])
for number in itertools.count():
    cache.put("judge", [(f"{number} {part}", 1.0) for part in range(10)])
    if number == 20:
        print("at work", flush=True)
"""
FILLER = """
import resource, sys
from npkit.errors import NpkitError
from npkit.scoring.cache import ScoreCache
path, limit = sys.argv[1], int(sys.argv[2])
cache = ScoreCache(path)
cache.put("judge", [("first", 1.0)])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for number in range(1000):
    try:
        cache.put("judge", [(f"{number} {part} " + "x" * 60, 2.0) for part in range(100)])
    except NpkitError as error:
        message = str(error)
        break
else:
    sys.exit("the disk never filled up")
assert cache.get("first") == 1.0 and cache.get(f"{number} 0 " + "x" * 60) is None
assert len(cache) == 1 + 100 * number, "a put is stored whole or not at all"
print(number, message)
"""


def start(code: str, *arguments) -> subprocess.Popen:
    """Start a Python process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def test_what_was_put_in_is_there_for_the_next_process(tmp_path):
    ScoreCache(tmp_path / "scores.sqlite").put("judge", [("a", 0.1), ("b", -2.5)])
    again = ScoreCache(tmp_path / "scores.sqlite")
    assert (again.get("a"), again.get("b"), again.get("c"), len(again)) == (0.1, -2.5, None, 2)


def test_two_processes_open_and_write_one_file_at_once(tmp_path):
    path = tmp_path / "scores.sqlite"
    writers = [start(WRITER, path, name) for name in ("one", "two")]
    for writer in writers:
        _, errors = writer.communicate(timeout=100)
        assert writer.returncode == 0, errors
    cache = ScoreCache(path)
    assert len(cache) == 450
    assert all(cache.get(f"{name} {number}") == number for name in ("one", "two", "shared") for number in range(150))


def test_a_killed_writer_leaves_whole_puts_and_a_sound_file(tmp_path):
    path = tmp_path / "scores.sqlite"
    writer = start(ENDLESS, path)
    assert writer.stdout.readline() == "at work\n"
    writer.kill()
    writer.wait()
    cache = ScoreCache(path)
    assert cache.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(cache) >= 210 and len(cache) % 10 == 0
    cache.put("judge", [("after", 1.0)])


def test_a_writer_waits_for_another_and_says_so_when_it_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("npkit.scoring.cache.BUSY_SECONDS", 0.2)
    first, second = (ScoreCache(tmp_path / "scores.sqlite") for _ in range(2))
    first.connection.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(NpkitError, match="cannot be written .database is locked.; what it held is kept; is another"):
        second.put("judge", [("a", 1.0)])
    assert time.monotonic() - began >= 0.2
    first.connection.rollback()
    second.put("judge", [("a", 1.0)])
    assert first.get("a") == 1.0


def filled(path, limit: int) -> str:
    """Write scores in a process of its own until there is no more room; return its error message."""
    filler = start(FILLER, path, limit)
    output, errors = filler.communicate(timeout=100)
    assert filler.returncode == 0, errors
    number, _, message = output.partition(" ")
    assert int(number) > 0
    return message


def test_a_file_that_may_not_grow_is_told_and_stays_readable(tmp_path):
    message = filled(tmp_path / "scores.sqlite", limit=400_000)
    assert "cannot be written" in message and "free some space, or remove this file" in message
    cache = ScoreCache(tmp_path / "scores.sqlite")
    assert cache.get("first") == 1.0
    cache.put("judge", [("after", 3.0)])
    assert cache.get("after") == 3.0 and len(cache) % 100 == 2


def test_a_full_disk_is_told_and_what_was_written_stays(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 18))
    message = filled(small_disk / "scores.sqlite", limit=0)
    assert "cannot be written" in message and "free some space, or remove this file" in message
    cache = ScoreCache(small_disk / "scores.sqlite")
    assert cache.get("first") == 1.0 and len(cache) % 100 == 1, "readable while the disk is full"
    with pytest.raises(NpkitError, match="cannot be cleared .database or disk is full.; what it held is kept"):
        cache.clear()
    assert cache.get("first") == 1.0
    ballast.unlink()
    cache.put("judge", [("after", 3.0)])
    assert cache.get("after") == 3.0 and len(cache) % 100 == 2


def test_what_is_no_score_cache_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be one" * 100)
    with pytest.raises(NpkitError, match=r"notes.txt cannot be opened .file is not a database.*remove the file if"):
        ScoreCache(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text().startswith("not a database")
    with pytest.raises(NpkitError, match="cannot be opened .unable to open database file"):
        ScoreCache(tmp_path / "nowhere" / "scores.sqlite")


def test_size_by_judge_and_clear(tmp_path):
    path = tmp_path / "scores.sqlite"
    cache, other = ScoreCache(path), ScoreCache(path)
    cache.put("taste", [("a", 1.0)])
    cache.put("pickscore", [(f"{number}" * 30, 1.0) for number in range(3000)])
    before = cache.size()
    assert before.num_scores == {"pickscore": 3000, "taste": 1}
    files = [file for file in tmp_path.iterdir() if file.name.startswith("scores.sqlite")]
    assert before.num_bytes == sum(file.stat().st_size for file in files) > 100_000
    assert size_report(cache).splitlines()[1:4] == [
        "pickscore          3,000 scores", "taste                  1 scores", "all judges         3,001 scores"]
    assert cache.clear() == 3001
    assert len(cache) == len(other) == 0 and cache.size().num_bytes < before.num_bytes / 3
    other.put("taste", [("b", 2.0)])
    assert cache.get("b") == 2.0


def test_command_line_reports_and_clears(npkit_home, capsys):
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == ("no score cache yet: PPO, evaluation and optimize --scores will make "
                                       f"{cache_path()}\n")
    assert not npkit_home.exists()
    shared_cache().put("pickscore", [("a", 1.0), ("b", 2.0)])
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"score cache {npkit_home / 'artifacts' / 'scores.sqlite'}"
    assert lines[1].split() == ["pickscore", "2", "scores"]
    assert lines[-1].startswith("on disk") and lines[-1].endswith(" bytes")
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out.startswith("2 scores removed\n")
    assert len(shared_cache()) == 0
