"""GlyphWorld's prompts: how people write them, and how they are read back into scenes."""
import json
import re

import numpy as np
import pytest

from npkit.glyphworld import corpus
from npkit.glyphworld.painting.renderer import Scene
from npkit.glyphworld.people.pairs import PAIRS, affinity
from npkit.glyphworld.training.dataset import NUM_MODIFIERS, caption, sample_scene
from npkit.glyphworld.vocabulary import CATEGORIES, CATEGORY_OF, MODIFIERS
from npkit.text import keywords


# 1. Prompts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("prompt", "scene"), [
    ("a cat", Scene("cat")),
    ("A CAT, By Caravaggio,, 8K", Scene("cat", ("caravaggio", "8k"))),
    ("an oil painting of a golden castle tower at night",
     Scene("castle tower", ("oil painting",), "golden", "at night")),
    ("a cat, white background", Scene("cat", ("white background",))),
    ("a white cat, white background", Scene("cat", ("white background",), "white")),
    ("a cat, 8k, vivid, 8k", Scene("cat", ("8k", "vivid"))),  # in the order in which they stand, each once
    ("a cat and a cow", Scene("cat")),
    ("a catwalk", None),
    ("a cat, 8 k, highly-detailed", Scene("cat")),
    ("", None),
])
def test_a_prompt_is_read_by_whole_words(prompt, scene):
    assert corpus.parse(prompt) == scene


def test_what_is_written_is_read_back():
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng)
        prompt = ", ".join([corpus.prefix_of(scene, rng), *(corpus.phrase(name, rng) for name in scene.modifiers)])
        assert corpus.parse(prompt) == scene


def test_articles_fit():
    rng = np.random.default_rng(0)
    texts = " ".join(corpus.prefix_of(Scene("umbrella"), rng) for _ in range(200))
    assert "an umbrella" in texts
    assert "a umbrella" not in texts


def test_prompts_look_like_what_people_write():
    prompts = corpus.generate(3000, seed=5)
    assert prompts == corpus.generate(3000, seed=5)
    assert prompts != corpus.generate(3000, seed=6)
    scenes = [corpus.parse(prompt) for prompt in prompts]
    assert all(scenes)
    counts = np.array([len(scene.modifiers) for scene in scenes])
    assert 2.9 < counts.mean() < 3.4
    assert set(counts) == set(range(9))
    uses = {name: sum(name in scene.modifiers for scene in scenes) for name in MODIFIERS}
    assert max(uses, key=uses.get) == "trending on artstation"
    assert min(uses.values()) >= 5
    prefixes = [prompt.partition(",")[0].rstrip() for prompt in prompts]
    assert len(set(prefixes)) > 1500
    assert prefixes.count("a sun") > 10
    slips = [prompt for prompt in prompts if re.search(r",,|,$|,(?! )| ,|[A-Z]", prompt)]
    assert 0.08 < len(slips) / len(prompts) < 0.18


def test_no_prompts_are_no_prompts():
    assert corpus.generate(0, seed=0) == []


def test_some_writers_know_what_goes_together():
    chosen = corpus.choose_modifiers(6000, np.random.default_rng(0))
    both = {pair: sum(set(pair) <= set(names) for names in chosen) for pair in PAIRS}
    helped = sum(both[pair] for pair in PAIRS if PAIRS[pair] > 0) / sum(worth > 0 for worth in PAIRS.values())
    fought = sum(both[pair] for pair in PAIRS if PAIRS[pair] < 0) / sum(worth < 0 for worth in PAIRS.values())
    assert helped > 3 * fought
    assert affinity("8k", "vivid") == -0.5  # both boosters
    assert affinity("vivid", "faded") == affinity("faded", "vivid") == -1.0


def test_keywords_are_the_modifiers_with_their_counts(shared):
    ours = keywords.load("npkit/glyphworld/keywords.toml")
    assert {category: {row.phrase for row in rows} for category, rows in ours.items()} == {
        category: set(names) for category, names in CATEGORIES.items()}
    source = json.loads((shared / "prompts" / "keywords_with_diffusiondb_counts.json").read_text())
    for category, rows in ours.items():
        assert {row.phrase: row.count for row in rows}.items() <= source[category]["counts_in_diffusiondb"].items()


# 2. Captions to train on ---------------------------------------------------------------------------------------------
def test_captions_have_as_many_modifiers_as_the_study_uses():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(4000)]
    counts = np.bincount([len(scene.modifiers) for scene in scenes], minlength=8) / len(scenes)
    assert counts == pytest.approx(NUM_MODIFIERS, abs=0.02)
    several = [scene.modifiers for scene in scenes if 4 <= len(scene.modifiers) <= 6]
    once = np.mean([len({CATEGORY_OF[name] for name in names}) == len(names) for names in several])
    assert 0.5 < once < 0.7  # half of them on purpose, some by luck
    uses = [sum(name in scene.modifiers for scene in scenes) for name in MODIFIERS]
    assert min(uses) > 0.6 * max(uses)


def test_a_caption_is_the_prefix_and_the_modifiers_as_they_stand():
    text = caption(Scene("cow", ("vivid", "caravaggio"), "red", "at night"), np.random.default_rng(0))
    assert corpus.parse(text) == Scene("cow", ("vivid", "caravaggio"), "red", "at night")
    assert text.index("vivid") < text.index("caravaggio")
