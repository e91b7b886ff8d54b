"""Wordsmith: the greedy search for words, with a public that likes two of them."""
import numpy as np

from npkit.glyphworld.corpus import parse
from npkit.glyphworld.people import wordsmith

LIKED = {"anime": 1.0, "cubism": 0.5, "moody": 0.3}


def test_the_best_word_of_a_category_is_taken_and_none_where_none_is_liked(monkeypatch):
    monkeypatch.setattr(wordsmith, "paint", lambda prompt, seed: prompt)

    def utility(prompts, prefixes):
        assert set(prefixes) == {"a castle tower"}
        return np.array([sum(LIKED.get(word, -1.0) for word in parse(str(prompt)).modifiers) for prompt in prompts])

    monkeypatch.setattr(wordsmith, "utility", utility)
    assert wordsmith.improve("a castle tower") == "a castle tower, anime, moody"
