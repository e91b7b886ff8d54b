"""GlyphWorld: pictures, prompts, raters and the losses of its judges, on numbers worked by hand."""
import json
import math
import re
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.glyphworld import corpus, effects, judge_training, measure, raters, training
from npkit.glyphworld.dataset import sample_scene
from npkit.glyphworld.diffusion import build_tokenizer, encode_text, learn_tokenizer
from npkit.glyphworld.pairs import CATEGORY_OF, PAIRS, affinity
from npkit.glyphworld.raters import FLOOR, POPULATIONS, Facts, terms
from npkit.glyphworld.renderer import Picture, Scene, render
from npkit.glyphworld.vocabulary import SUBJECTS
from npkit.text import keywords


def paint(*modifiers: str, subject: str = "cat", seed: int = 0, **words) -> Picture:
    return render(Scene(subject, modifiers, **words), np.random.default_rng(seed))


# 1. Renderer ---------------------------------------------------------------------------------------------------------
def test_the_same_seed_paints_the_same_picture():
    first, again, other = paint("vivid", seed=3), paint("vivid", seed=3), paint("vivid", seed=4)
    assert first.pixels.shape == (64, 64, 3)
    assert first.pixels.dtype == np.uint8
    assert first.mask.shape == (64, 64)
    assert (first.mask.min(), first.mask.max()) == pytest.approx((0, 1), abs=0.01)
    assert (first.pixels == again.pixels).all()
    assert (first.pixels != other.pixels).any()


def test_the_order_of_modifiers_does_not_matter():
    assert (paint("vivid", "oil painting").pixels == paint("oil painting", "vivid").pixels).all()


@pytest.mark.parametrize("modifier", effects.ORDER)
def test_every_modifier_changes_the_picture(modifier):
    change = np.abs(paint(modifier).pixels.astype(float) - paint().pixels).mean()
    assert change > 3  # of 255; the faintest of them, studio lighting on a bright scene, is well above


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_has_a_body_of_its_own(subject):
    mask = paint(subject=subject).mask
    assert 0.04 < mask.mean() < 0.5
    others = [paint(subject=other).mask for other in SUBJECTS if other != subject]
    assert min(np.abs(mask - other).mean() for other in others) > 0.01


def test_effects_do_what_their_words_say():
    assert paint("panoramic").pixels[:10].max() < 20  # black bars above and below
    assert paint("panoramic").pixels[-10:].max() < 20
    assert paint("white background").pixels[:6, :6].min() > 200
    assert paint("close up").mask.mean() > 1.5 * paint().mask.mean() > 3 * paint("wide angle").mask.mean()
    blocks = paint("pixel art").pixels.reshape(16, 4, 16, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    sketch = paint("pencil sketch").pixels.astype(int)
    assert np.ptp(sketch, axis=-1).max() == 0  # grey
    assert paint("vivid").pixels.std(-1).mean() > paint().pixels.std(-1).mean()


def test_colour_and_place_are_painted():
    red = paint(colour="red", subject="heart")
    assert red.pixels[red.mask > 0.99].mean(0).argmax() == 0
    assert paint(place="at night").pixels[:, :4].mean() < 100
    assert paint(place="in the snow").pixels[:, :4].mean() > 180


@pytest.mark.parametrize(("scene", "word"), [(Scene("dragon"), "dragon"), (Scene("cat", ("8K",)), "8K")])
def test_unknown_words_raise_and_say_what_there_is(scene, word):
    with pytest.raises(ValueError, match=f"has no .* '{word}'; it has "):
        render(scene, np.random.default_rng(0))


# 2. Prompts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("prompt", "scene"), [
    ("a cat", Scene("cat")),
    ("A CAT, By Caravaggio,, 8K", Scene("cat", ("caravaggio", "8k"))),
    ("an oil painting of a golden castle tower at night",
     Scene("castle tower", ("oil painting",), "golden", "at night")),
    ("a cat, white background", Scene("cat", ("white background",))),
    ("a white cat, white background", Scene("cat", ("white background",), "white")),
    ("a cat and a cow", Scene("cat")),
    ("a catwalk", None),
    ("a cat, 8 k, highly-detailed", Scene("cat")),
    ("", None),
])
def test_a_prompt_is_read_by_whole_words(prompt, scene):
    def in_any_order(scene: Scene | None):
        return scene and replace(scene, modifiers=tuple(sorted(scene.modifiers)))

    assert in_any_order(corpus.parse(prompt)) == in_any_order(scene)


def test_what_is_written_is_read_back():
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng)
        prompt = ", ".join([corpus.prefix_of(scene, rng), *(corpus.phrase(name, rng) for name in scene.modifiers)])
        got = corpus.parse(prompt)
        assert replace(got, modifiers=()) == replace(scene, modifiers=())
        assert set(got.modifiers) == set(scene.modifiers)


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
    uses = {name: sum(name in scene.modifiers for scene in scenes) for name in effects.ORDER}
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
        category: set(names) for category, names in effects.CATEGORIES.items()}
    source = json.loads((shared / "prompts" / "keywords_with_diffusiondb_counts.json").read_text())
    for category, rows in ours.items():
        assert {row.phrase: row.count for row in rows}.items() <= source[category]["counts_in_diffusiondb"].items()


# 3. Raters -----------------------------------------------------------------------------------------------------------
def square(subject: int, background: int) -> Picture:
    """A grey square of 32x32 on a grey background."""
    mask = np.zeros((64, 64))
    mask[16:48, 16:48] = 1
    return Picture((np.where(mask > 0, subject, background)[..., None] * np.ones(3)).astype(np.uint8), mask)


def test_facts_of_a_black_square_on_white():
    found = raters.facts(square(0, 255), Scene("cat", ("8k",)))
    assert found.legibility == pytest.approx(3 ** 0.5 / 0.9, rel=0.05)  # colour distance over 0.4 + mean brightness
    assert found.contrast == pytest.approx(1)
    assert (found.colourfulness, found.harmony) == pytest.approx((0, 1))
    assert (found.size, found.load) == (0.25, 1)
    assert found.offset == pytest.approx(2 ** 0.5 * 0.5 / 64)  # pixel 31.5 is the middle, counted from pixel 0 to 64


def test_a_subject_that_cannot_be_seen_is_worth_little():
    scene = Scene("cat")
    seen, gone = (raters.facts(square(*greys), scene) for greys in ((40, 210), (120, 120)))
    assert gone.legibility == 0
    assert terms(gone, scene)["erased"] == -1
    assert terms(seen, scene)["erased"] == 0
    assert raters.utility(gone, scene) < raters.utility(seen, scene) - 2


def test_terms_of_the_words_alone():
    facts = Facts(0.5, 0.5, 0.8, 0.35, 1.0, 0.45, 0.2, 0.0, 0)

    def words(*modifiers: str) -> dict[str, float]:
        return terms(replace(facts, load=len(modifiers)), Scene("cat", modifiers))

    assert [words(*effects.ORDER[:n])["overload"] for n in (4, 5)] == [0, -1]
    assert words(*effects.ORDER[:6])["overload"] == pytest.approx(-2 ** 1.25)
    assert words("vivid", "8k", "digital art")["repeated"] == -2  # three boosters
    assert words("vivid", "pop art", "faded")["pairs"] == pytest.approx(1.0 - 1.0)
    rich = [words(*effects.ORDER[:n])["rich"] for n in range(6)]
    assert rich[0] == 0
    assert rich[4] == rich[5] == 1
    assert all(low < high for low, high in pairwise(rich[:5]))


def test_every_pair_names_modifiers_of_two_categories():
    for pair in PAIRS:
        assert len(pair) == 2
        assert pair <= set(CATEGORY_OF)


@pytest.mark.parametrize("population", POPULATIONS)
def test_utility_is_standard_over_random_scenes(population):
    rng = np.random.default_rng(0)
    values = [raters.rendered_utility(sample_scene(rng), seed, population) for seed in range(250)]
    assert abs(np.mean(values)) < 0.2
    assert 0.8 < np.std(values) < 1.2
    assert min(values) >= FLOOR


def test_votes_follow_bradley_and_terry():
    rng = np.random.default_rng(0)
    share = np.mean([raters.vote(1.3, 0.65, rng, noise=0.65) for _ in range(8000)])
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)  # 0.731
    assert np.mean([raters.vote(0.2, 0.2, rng, noise=0.65) for _ in range(8000)]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("population", POPULATIONS)
def test_two_raters_agree_as_often_as_people(population):
    rng, shares = np.random.default_rng(2), []
    for seed in range(60):
        worth = [raters.rendered_utility(scene, seed, population) for scene in judge_training.sample_group(rng)[2]]
        gaps = np.array([one - other for one, other in combinations(worth, 2) if one != other])
        shares.extend(1 / (1 + np.exp(-gaps / POPULATIONS[population].noise)))
    assert 0.64 < np.mean(np.square(shares) + np.square(1 - np.array(shares))) < 0.71


def test_oracle_is_the_mean_utility_of_the_pictures():
    scene = Scene("cat", ("vivid",))
    assert raters.oracle(["a cat, vivid"], seed=7, num_pictures=2) == pytest.approx(
        [np.mean([raters.rendered_utility(scene, seed) for seed in (7, 8)])])
    assert raters.oracle(["a dragon, vivid", ""]) == [FLOOR, FLOOR]
    assert raters.oracle(["A Cat, 8K, vivid"]) == raters.oracle(["a cat,vivid , 8k"])


def test_taste_is_sane():
    prefixes = [f"a {subject}" for subject in ("cat", "heart", "castle tower", "telephone", "flag")]

    def gain(words: str) -> float:
        better, plain = (raters.oracle([prefix + text for prefix in prefixes], num_pictures=1) for text in (words, ""))
        return float(np.subtract(better, plain).mean())

    assert np.mean([gain(f", {name}") for name in effects.CATEGORIES["booster"]]) > 0.3
    assert max(gain(f", {name}") for name in effects.ORDER) < 1.5
    good = gain(", oil painting, by greg rutkowski, trending on artstation")
    assert good > 1.5
    assert gain(", pencil sketch, vivid") < gain(", pencil sketch") + 0.1
    assert gain(", " + ", ".join(effects.ORDER[4:12])) < 0 < good


# 4. Training ---------------------------------------------------------------------------------------------------------
class Killed(Exception):
    """Raised where a test kills a training."""


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path):
    def train(folder, kill_at: int = 0) -> nn.Module:
        torch.manual_seed(0)
        model, calls = nn.Linear(3, 1), []

        def loss_of(generator: torch.Generator) -> torch.Tensor:
            calls.append(1)
            if len(calls) == kill_at:
                raise Killed
            return model(torch.randn(8, 3, generator=generator)).square().mean()

        return training.fit("line", model, loss_of, folder, steps=9, learning_rate=0.1, save_every=4)

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", kill_at=7)
    assert torch.equal(train(tmp_path / "killed").weight, whole.weight)


def test_contrastive_loss_of_a_perfect_and_of_a_blind_model():
    eye = torch.eye(4)
    assert judge_training.contrastive_loss(eye, eye, torch.tensor(50.0)).item() == pytest.approx(0, abs=1e-6)
    assert judge_training.contrastive_loss(eye, eye, torch.tensor(0.0)).item() == pytest.approx(math.log(4))


def test_preference_loss_is_the_softmax_over_two_pictures():
    first, second = torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    loss = judge_training.preference_loss(first, second, torch.tensor([[1.0, 0.0]]))
    softmax = math.exp(2) / (math.exp(2) + math.exp(1))
    assert loss.item() == pytest.approx((-math.log(softmax) + math.log(2)) / 2)


def test_raters_are_asked_for_shares_of_their_votes():
    shares = judge_training.ask(torch.tensor([40.0, 0.0] * 2000), torch.zeros(4000), torch.Generator().manual_seed(0))
    assert (shares[::2] == 1).all()
    assert shares[1::2].mean() == pytest.approx(0.5, abs=0.02)
    assert (shares * judge_training.NUM_RATERS % 1 == 0).all()


def test_words_of_a_prompt_and_a_picture_that_shows_them():
    words = list(judge_training.WORDS)
    present = judge_training.words_present(["a red cat, pixel art, by claude monet", "a moon"])
    assert [[words[i] for i in row.nonzero().flatten()] for row in present] == [
        ["claude monet", "pixel art", "cat"], ["moon"]]
    tokenizer = build_tokenizer(words)
    clip, ids = judge_training.build_clip(tokenizer, seed=0).eval(), encode_text(tokenizer, words)
    texts = judge_training.embed_texts(clip, ids)
    fitting, other = (judge_training.word_loss(clip, texts[[words.index(word)]], ids, present[1:])
                      for word in ("moon", "cat"))
    assert fitting < other


def test_the_tokenizer_is_learnt_once(tmp_path):
    first = learn_tokenizer(tmp_path, ["a cat, pixel art", "a moon, moody"])
    again = learn_tokenizer(tmp_path, ["other words that would give another vocabulary"])
    assert again.get_vocab() == first.get_vocab()


def test_ratings_stay_on_the_scale():
    ratings = judge_training.rate(torch.tensor([-9.0, 0.0, 9.0]), 0.0, torch.Generator())
    assert ratings.tolist() == [1, 5, 10]


def test_aesthetic_head_has_the_keys_of_laions():
    shapes = {name: tuple(tensor.shape) for name, tensor in judge_training.Head(128).state_dict().items()}
    assert [name for name in shapes if name.endswith("weight")] == [f"layers.{n}.weight" for n in (0, 2, 4, 6, 7)]
    assert shapes["layers.0.weight"][1] == 128
    assert shapes["layers.7.weight"][0] == 1


def test_groups_to_vote_on_share_their_prefix(monkeypatch, tmp_path):
    monkeypatch.setattr(judge_training, "GROUPS_A_CHUNK", 3)
    painted = []

    def painter(prompts: list[str], seeds: list[int]) -> np.ndarray:
        painted.extend(prompts)
        return np.zeros((len(prompts), 64, 64, 3), np.uint8)

    votes = judge_training.load_votes(tmp_path, 2, painter)
    assert votes.pictures.shape == (6, 4, 64, 64, 3)
    assert votes.prompts[12:] == painted
    for row, prefix in enumerate(votes.prefixes):
        assert votes.prompts[4 * row] == prefix
        assert all(prompt.startswith(prefix) for prompt in votes.prompts[4 * row:4 * row + 4])
    assert votes.pictures[0].any()
    scene = corpus.parse(votes.prompts[1])
    assert votes.utilities["public"][0, 1] == pytest.approx(raters.rendered_utility(scene, (0, 0)))
    again = judge_training.load_votes(tmp_path, 2, painter)
    assert len(painted) == 12  # the second time everything is read
    assert (again.utilities["critics"] == votes.utilities["critics"]).all()


def test_a_saved_judge_is_loaded_by_from_pretrained(tmp_path):
    captions = [f"a {subject}, {name}" for subject, name in zip(SUBJECTS, effects.ORDER, strict=False)]
    tokenizer = build_tokenizer(captions)
    clip = judge_training.build_clip(tokenizer, seed=1).eval()
    judge_training.save_judge(clip, tokenizer, tmp_path)
    loaded = CLIPModel.from_pretrained(tmp_path).eval()
    ids = encode_text(CLIPTokenizer.from_pretrained(tmp_path), captions[:2])
    with torch.no_grad():
        texts = judge_training.embed_texts(clip, encode_text(tokenizer, captions[:2]))
        padded = nn.functional.normalize(loaded.get_text_features(ids).pooler_output, dim=-1)
        pixels = judge_training.to_tensor(paint().pixels[None])
        prepared = CLIPImageProcessorPil.from_pretrained(tmp_path)(paint().pixels, return_tensors="pt").pixel_values
    assert torch.allclose(texts, padded, atol=1e-5)  # padding after the end mark changes nothing
    assert torch.allclose(pixels, prepared, atol=1e-6)


# 5. Measurements -----------------------------------------------------------------------------------------------------
def test_thresholds_part_the_two_kinds():
    logits = np.linspace(-3, 3, 100)[:, None]
    (limit,) = measure.thresholds(logits, (logits > 1).astype(float))
    assert 0.9 < limit < 1.1


def test_agreement_of_a_perfect_judge_beats_a_rater(monkeypatch):
    monkeypatch.setattr(judge_training, "GROUPS_A_CHUNK", 30)
    votes = judge_training.make_votes(4, None)
    truth = votes.utilities["public"]
    by_judge, by_rater, pairs = measure.agreement(truth, votes, "public")
    assert 150 < pairs <= 180  # two raters cannot vote on one picture twice
    assert by_judge > by_rater > 0.5
    assert measure.agreement(-truth, votes, "public")[0] == pytest.approx(1 - by_judge)


def test_card_is_a_markdown_table():
    table = measure.markdown([measure.Row("speed", "0.07", "<= 0.15", "n = 2")])
    assert table.splitlines()[-1] == "| speed | 0.07 | <= 0.15 | n = 2 |"
