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
    (None, "cannot be read"), ("style = [", "cannot be read"), ('style = [{word = "x"}]', "cannot be read"),
    ('mood = [{phrase = "x", count = 1}]', "unknown categories")])
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "own.toml"
    if content:
        path.write_text(content)
    with pytest.raises(NpkitError, match=message):
        keywords.load(str(path))


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
