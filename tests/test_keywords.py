"""Keywords: the shipped lists, whole-word matching, and the shares measured on real prompts."""
from pathlib import Path

import pandas as pd
import pytest

from npkit.errors import NpkitError
from npkit.text import keywords
from npkit.text.keywords import Keyword

REAL = Path(__file__).parents[2] / "shared/prompts/diffusiondb_prompts.jsonl"
TOY = {"format": (Keyword(phrase="painting", count=3), Keyword(phrase="oil painting", count=2)),
       "vibe": (Keyword(phrase="emo", count=1),)}


def test_the_six_categories_with_their_counts():
    lists = keywords.load()
    assert tuple(lists) == keywords.CATEGORIES
    assert [len(rows) for rows in lists.values()] == [38, 44, 44, 42, 36, 50]
    assert lists["booster"][0] == Keyword(phrase="detailed", count=725317)
    assert Keyword(phrase="captured on CCTV", count=0) in lists["format"]  # unused phrases stay
    assert all(list(rows) == sorted(rows, key=lambda row: -row.count) for rows in lists.values())


def test_blocked_keywords_are_never_drawn():
    kept = keywords.select(TOY, block="^OIL")
    assert [row.phrase for row in kept["format"]] == ["painting"] and kept["vibe"] == TOY["vibe"]
    assert not any(row.living_artist for rows in keywords.select(keywords.load(), "", False).values() for row in rows)
    with pytest.raises(NpkitError, match="leaves no keyword of category 'vibe'"):
        keywords.select(TOY, block="emo")
    with pytest.raises(NpkitError, match="no regular expression"):
        keywords.select(TOY, block="(")


def test_living_artists_are_flagged():
    flagged = {row.phrase for rows in keywords.load().values() for row in rows if row.living_artist}
    assert {"greg rutkowski", "craig mullins", "james gurney", "yoji shinkawa", "hayao miyazaki"} <= flagged
    assert not {"ralph mcquarrie", "frank frazetta", "hatsune miku", "vincent van gogh"} & flagged


def test_a_file_is_sorted_by_count(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('style = [{phrase = "cubism", count = 1}, {phrase = "anime", count = 9}]')
    assert [row.phrase for row in keywords.load(str(path))["style"]] == ["anime", "cubism"]


@pytest.mark.parametrize("content, message", [
    (None, "cannot be read"),
    ("style = [", "cannot be read"),
    (b'style = [{phrase = "caf\xe9", count = 1}]', "cannot be read"),
    ("", "has no category"),
    ('mood = [{phrase = "x", count = 1}]', "unknown categories"),
    ('style = [{word = "x"}]', "style, keyword 1: \"{'word': 'x'}\" has not the keys phrase and count"),
    ('style = [{phrase = "x", count = 1, colour = 3}]', "style, keyword 1:"),
    ('style = [{phrase = "x"}]', "style, keyword 1:"),
    ('style = ["cubism"]', "style, keyword 1: 'cubism' has not the keys"),
    ('style = "cubism"', "style: 'cubism' is no list of keywords"),
    ("style = []", "style: '[]' is no list of keywords"),
    ("style = [{phrase = 8, count = 1}]", "style, keyword 1: phrase is 8, it must be a text"),
    ('style = [{phrase = ["a", "b"], count = 1}]', "style, keyword 1: phrase is ['a', 'b'], it must be a text"),
    ('style = [{phrase = "x", count = "7"}]', "style, keyword 1: count is '7', it must be a whole number"),
    ('style = [{phrase = "x", count = true}]', "style, keyword 1: count is True, it must be a whole number"),
    ('style = [{phrase = "x", count = 1.5}]', "style, keyword 1: count is 1.5, it must be a whole number"),
    ('style = [{phrase = "x", count = -1}]', "style, keyword 1: count is -1, it must be 0 or more"),
    ('style = [{phrase = "x", count = 1, living_artist = "no"}]', "living_artist is 'no', it must be true or false"),
    ('vibe = [{phrase = "x", count = 1}, {phrase = " \u200b", count = 1}]', "vibe, keyword 2: phrase is empty"),
    ('vibe = [{phrase = "Cozy", count = 1}, {phrase = "cozy ", count = 1}]', "keyword 2: 'cozy' stands there twice"),
])
def test_a_bad_file_is_told_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NpkitError) as error:
        keywords.load(str(path))
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_phrases_are_tidied(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('\ufeffartist = [{phrase = " rene\u0301  magritte\u200b", count = 1}]', encoding="utf-8")
    assert keywords.load(str(path))["artist"] == (Keyword(phrase="rené magritte", count=1),)


def test_no_prompts_have_no_keywords():
    assert keywords.share_with_category([], TOY) == {"format": 0, "vibe": 0}


def test_only_whole_words_count():
    prompts = ["a fox, oil painting", "a demo of paintings", "EMO cat", "a fox"]
    assert keywords.share_with_category(prompts, TOY) == {"format": 0.25, "vibe": 0.25}


def test_the_longest_keyword_wins():
    prompts = ["oil painting, oil painting", "a Painting and an oil painting"]
    assert keywords.count_keywords(prompts, TOY["format"]) == {"oil painting": 2, "painting": 1}


@pytest.mark.skipif(not REAL.exists(), reason="the workshop's DiffusionDB sample is not here")
def test_shares_of_real_prompts():
    """The shipped shares were measured on a slightly larger sample."""
    prompts = pd.read_json(REAL, lines=True, dtype=False)["prompt"].tolist()
    shares = keywords.share_with_category(prompts, keywords.load())
    assert shares == pytest.approx(keywords.DIFFUSIONDB_SHARES, abs=0.025)
