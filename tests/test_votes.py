"""Votes: kept through kills and side by side, refused in a sentence where they are impossible, out and in again."""
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from npkit.errors import NpkitError
from npkit.preferences import exchange, votes
from npkit.preferences.pairs import QUESTIONS, Pair, left_of, make_pairs, questions_for

PAIRS = [Pair(f"a fox {number}", number, "sft", "ppo", f"a fox {number}, old", f"a fox {number}, vivid")
         for number in range(40)]
NASTY = ['<script>alert("votes")</script>', "=HYPERLINK(\"x\")", "+1", "-2", "@x", "'tis", "a,b \"c\"", "\uff1dA1"]
VOTER = """
import sys
from npkit.preferences import votes
from npkit.preferences.pairs import Pair, left_of
pairs = [Pair(f"a fox {n}", n, "sft", "ppo", f"a fox {n}, old", f"a fox {n}, vivid") for n in range(40)]
file = votes.open_votes(sys.argv[1], pairs)
for number in range(10_000):
    rater, pair = f"{sys.argv[2]} {number // 40}", pairs[number % 40]
    if number == int(sys.argv[3]):
        break
    file.add(votes.Vote(rater, pair.name, "prettier", left_of(rater, pair), "left", 1.5, "v", "2026-11-29T10:00:00Z"))
    print(rater, pair.name, sep="/", flush=True)  # said only after the vote is kept
"""


def vote(on: Pair = PAIRS[0], **changes) -> votes.Vote:
    """Return a vote that may be, with changes."""
    return replace(votes.Vote("Ada", on.name, "prettier", on.first, "left", 2.5, "npkit 0.1.0",
                              "2026-11-29T10:00:00+00:00"), **changes)


@pytest.fixture
def file(tmp_path) -> votes.VoteFile:
    return votes.open_votes(tmp_path / "votes.sqlite", PAIRS)


# 1. The file ---------------------------------------------------------------------------------------------------------
def test_votes_are_there_after_opening_again(file):
    file.add_all([vote(), vote(question="shows", choice="tie"), vote(PAIRS[1], rater="Bob")])
    again = votes.open_votes(file.path, PAIRS)
    table = again.table()
    assert list(table["choice"]) == ["left", "tie", "left"]
    assert list(table["second_prompt"]) == ["a fox 0, vivid"] * 2 + ["a fox 1, vivid"]
    assert again.answered("Ada") == {(PAIRS[0].name, "prettier"), (PAIRS[0].name, "shows")}
    assert list(again.pairs()) == [pair.name for pair in PAIRS]


def test_two_processes_vote_into_one_file_and_one_is_killed(tmp_path):
    """Whatever a process has said to be kept is there; of the killed one at most one more, the vote in flight."""
    path = tmp_path / "votes.sqlite"
    said = [tmp_path / "one", tmp_path / "other"]
    voters = []
    for name, count, where in zip(("one", "other"), ("120", "9999"), said, strict=True):
        with open(where, "w") as output:
            voters.append(subprocess.Popen([sys.executable, "-c", VOTER, str(path), name, count], stdout=output))
    while said[1].stat().st_size < 1500 and voters[1].poll() is None:
        time.sleep(0.01)
    voters[1].send_signal(signal.SIGKILL)
    assert (voters[0].wait(timeout=120), voters[1].wait(timeout=10)) == (0, -signal.SIGKILL)
    table = votes.VoteFile(path).table()
    kept = set(table["rater"] + "/" + table["pair"])
    told = [{line for line in where.read_text().splitlines(keepends=True) if line.endswith("\n")} for where in said]
    assert len(told[0]) == 120
    assert {line.strip() for lines in told for line in lines} <= kept
    assert len(kept) - sum(map(len, told)) <= 1
    assert len(table) == len(kept)
    votes.VoteFile(path).add(vote(rater="late"))  # and it goes on


@pytest.mark.parametrize(("wrong", "sentence"), [
    (vote(pair="nobody"), "no pair 'nobody'"),
    (vote(question="nicer"), "one of prettier, shows"),
    (vote(choice="both"), "one of left, right, tie"),
    (vote(left="human"), "one of sft, ppo"),
    (vote(seconds=-1.0), "between 0 and"),
    (vote(seconds=float("nan")), "between 0 and"),
    (vote(rater=" "), "1 to 80 characters"),
    (vote(rater="a\x00b"), "can be printed"),
    (vote(rater="x" * 81), "1 to 80 characters"),
    (vote(time="yesterday"), "is written like"),
    (vote(time="2026-11-29T10:00:00"), "is written like"),
])
def test_impossible_votes_are_refused_in_a_sentence_and_nothing_is_kept(file, wrong, sentence):
    with pytest.raises(NpkitError, match=sentence):
        file.add_all([vote(PAIRS[1]), wrong])
    assert file.table().empty


def test_a_second_vote_of_the_same_rater_is_refused(file):
    file.add(vote())
    with pytest.raises(NpkitError, match="has already answered 'prettier'"):
        file.add(vote(choice="right"))
    assert list(file.table()["choice"]) == ["left"]


@pytest.mark.parametrize("content", ["version", "stranger", "text"])
def test_files_of_another_version_or_kind_are_refused_and_not_changed(tmp_path, content):
    path = tmp_path / "votes.sqlite"
    if content == "text":
        path.write_text("rater,pair\n")
    else:
        votes.open_votes(path, PAIRS).add(vote())
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 7" if content == "version" else "PRAGMA application_id = 7")
        connection.close()
    before = path.read_bytes()
    sentence = "version 7, and this npkit reads version 1" if content == "version" else "is no votes file"
    for use in (lambda: votes.open_votes(path, PAIRS), lambda: votes.VoteFile(path).add(vote(PAIRS[1])),
                lambda: votes.VoteFile(path).table()):
        with pytest.raises(NpkitError, match=sentence):
            use()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_that_is_not_there_is_not_made_by_looking(tmp_path):
    for use in (votes.VoteFile(tmp_path / "none.sqlite").table, lambda: exchange.votes_from(tmp_path / "none.sqlite")):
        with pytest.raises(NpkitError, match="no file of votes"):
            use()
    assert os.listdir(tmp_path) == []


def test_an_empty_file_becomes_a_votes_file(tmp_path):
    (tmp_path / "votes.sqlite").touch()
    assert votes.open_votes(tmp_path / "votes.sqlite", PAIRS).table().empty


# 2. Out and in again -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_and_import_give_the_same_votes(file, tmp_path, suffix):
    file.add_all([vote(rater=votes.tidy_rater(name)) for name in NASTY] + [vote(PAIRS[1], seconds=0.1 + 0.2)])
    path = exchange.export(file.table(), tmp_path / f"votes{suffix}")
    pd.testing.assert_frame_equal(exchange.read_table(path), file.table())
    other = votes.open_votes(tmp_path / "other.sqlite", PAIRS)
    assert (exchange.merge(path, other), exchange.merge(path, other)) == (9, 0)
    pd.testing.assert_frame_equal(other.table(), file.table())
    pd.testing.assert_frame_equal(exchange.votes_from(file.path), exchange.votes_from(path))


def test_no_cell_of_a_csv_begins_as_a_formula(file, tmp_path):
    file.add_all([vote(rater=name) for name in NASTY])
    path = exchange.export(file.table(), tmp_path / "votes.csv")
    cells = pd.read_csv(path, dtype=str).drop(columns=["format", "seconds", "seed"])
    assert not cells.map(lambda cell: cell.startswith(tuple("=+-@\t\r\uff1d"))).any(axis=None)
    assert [exchange.unguarded(exchange.guarded(text)) for text in NASTY] == NASTY


def test_tables_that_are_wrong_say_which_row(file, tmp_path):
    file.add_all([vote(), vote(PAIRS[1])])
    good = file.table().assign(format=1)
    cases = {"row 2: the choice": good.assign(choice=["left", "up"]), "row 1: seconds is": good.assign(seconds="fast"),
             "row 2: a second vote": pd.concat([good[:1], good[:1]]), "format 2": good.assign(format=2),
             "lacks rater": good.drop(columns="rater"), "has more too many": good.assign(more=1),
             "row 1: pair": good.assign(first_prompt="another"), "format none": good.drop(columns="format")}
    for sentence, rows in cases.items():
        rows.to_csv(tmp_path / "wrong.csv", index=False)
        with pytest.raises(NpkitError, match=sentence):
            exchange.merge(tmp_path / "wrong.csv", file)
    assert len(file.table()) == 2


def test_merging_another_vote_of_the_same_rater_adds_nothing(file, tmp_path):
    file.add(vote())
    rows = pd.concat([votes.table_of([vote(PAIRS[1])], PAIRS), file.table().assign(choice="right")])
    path = exchange.export(rows, tmp_path / "votes.parquet")
    with pytest.raises(NpkitError, match="voted otherwise here"):
        exchange.merge(path, file)
    assert len(file.table()) == 1
    stranger = votes.table_of([vote(replace(PAIRS[0], seed=99))], [replace(PAIRS[0], seed=99)])
    with pytest.raises(NpkitError, match="there is no pair"):
        exchange.merge(exchange.export(stranger, path), file)


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("votes.xlsx", "", "exported and imported as"), ("none.csv", None, "no file of votes"),
    ("votes.parquet", "no parquet", "cannot be read"), ("votes.csv", "", "cannot be read")])
def test_files_that_are_no_tables(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(NpkitError, match=sentence):
        exchange.read_table(tmp_path / name)


# 3. Pairs ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def scores() -> pd.DataFrame:
    rows = [(f"a fox {number}", variant, f"a fox {number}" + words, number // 4 + seed, judge, 0.0)
            for number in range(12) for seed in (0, 100) for judge in ("pickscore", "oracle")
            for variant, words in (("prefix", ""), ("sft", ", old" * (number % 2)), ("ppo", ", vivid"))]
    return pd.DataFrame(rows, columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


def test_pairs_are_balanced_and_of_one_seed(scores):
    variants = ["prefix", "sft", "ppo"]
    pairs = make_pairs(scores, variants, 12, 2, seed=0)
    assert len({pair.name for pair in pairs}) == 24
    assert all(pair.seed == int(pair.prefix.split()[-1]) // 4 for pair in pairs)
    assert all(pair.first_prompt != pair.second_prompt for pair in pairs)
    assert len(make_pairs(scores, variants, 99, 3, seed=0)) == 30  # 12 x 3 meetings, less 6 of equal prompts
    assert pairs == make_pairs(scores, variants, 12, 2, seed=0)
    assert pairs[:12] != make_pairs(scores, variants, 12, 1, seed=1)
    even = make_pairs(scores[scores["prefix"].str[-1].isin(list("13579"))], variants, 12, 1, seed=0)
    assert pd.Series([pair.variants for pair in even]).value_counts().tolist() == [2, 2, 2]
    with pytest.raises(NpkitError, match="at least two different variants"):
        make_pairs(scores, ["ppo", "dreams"], 5, 1, seed=0)


def test_sides_are_random_and_questions_asked_apart_and_resumed():
    share = sum(left_of(f"rater {number}", pair) == "sft" for number in range(50) for pair in PAIRS) / 2000
    assert 0.46 < share < 0.54
    asked = questions_for("Ada", PAIRS)
    assert len(asked) == 80
    assert [each.asked for each in asked[:40]] == [asked[0].asked] * 40 != [asked[40].asked] * 40
    assert {questions_for(f"rater {number}", PAIRS[:1])[0].asked for number in range(20)} == set(QUESTIONS)
    rest = questions_for("Ada", PAIRS, {(each.pair.name, each.asked) for each in asked[:30]})
    assert rest == asked[30:]
    assert asked[0].prompts == tuple(asked[0].pair.prompts[:: 1 if asked[0].left == "sft" else -1])
    assert {asked[0].left, asked[0].right} == {"sft", "ppo"}
