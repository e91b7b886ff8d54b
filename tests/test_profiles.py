"""Profiles: what they hold, how settings change them, and what is refused."""
import math
from dataclasses import MISSING, fields

import pytest

from npkit.errors import NpkitError
from npkit.study.contents import PACKAGE
from npkit.study.profiles import JUDGE_KINDS, SECTIONS, DataConfig, PPOConfig, load_profile, override, parse_setting
from npkit.text import corpus


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_every_profile_loads_and_its_reward_judge_exists(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.judge(profile.ppo.reward_judge).kind in JUDGE_KINDS
    assert "aesthetic" in {judge.name for judge in profile.judges}


@pytest.mark.parametrize(("name", "kind"), [("tiny", "picture_function"), ("small", "clipscore"),
                                            ("paper", "clipscore")])
def test_faithfulness_is_asked_of_one_of_the_judges_or_of_a_function(name, kind):
    profile = load_profile(name)
    assert profile.faithfulness_judge.kind == kind
    assert (profile.faithfulness_judge in profile.judges) == (kind == "clipscore")
    assert load_profile(name, {"evaluation.faithfulness": ""}).faithfulness_judge is None
    assert load_profile(name, {"evaluation.faithfulness": "aesthetic"}).faithfulness_judge == profile.judge("aesthetic")


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_rollouts_divide_into_minibatches(name):
    ppo = load_profile(name).ppo
    assert ppo.episodes_per_update % ppo.minibatch_size == 0


# Of 16,760 different prompts of DiffusionDB, 16,421 pass the cleaning and have 15,127 different prefixes. Three of four
# of its rows hold a prompt of their own (1.5 of 2 million, to confirm).
SAMPLE, KEPT, PREFIXES, DISTINCT_SHARE = 16_760, 16_421, 15_127, 0.75


def num_prefixes(num_rows: int, growth: float) -> float:
    """Return how many different prefixes so many rows have, where n times the prompts have n ** growth the prefixes."""
    return PREFIXES * (num_rows * DISTINCT_SHARE / SAMPLE) ** growth


def test_paper_has_the_test_prefixes_that_it_evaluates():
    """In the sample, twice the prompts have 2 ** 0.96 the prefixes; 0.8 leaves room for what larger samples repeat."""
    paper = load_profile("paper")
    data, wanted = paper.data, paper.evaluation.num_prefixes
    prefixes = num_prefixes(data.num_prompts, 0.8)
    assert wanted == 100_000 and data.num_prompts <= 2_000_000  # rows of the table
    assert 0.95 * prefixes * data.test_share > wanted  # 0.95: prefixes of at most 48 tokens
    assert num_prefixes(1_000_000, 1.0) * 0.1 < wanted, "a tenth of a million rows could not hold them"
    sft_share = 1 - data.test_share - data.ppo_share - data.validation_share
    assert sft_share * KEPT / SAMPLE * DISTINCT_SHARE * data.num_prompts > 600_000  # prompts, as in the paper


def test_the_rate_of_new_prefixes_is_that_of_real_prompts(shared):
    source = str(shared / "prompts/diffusiondb_prompts.jsonl")
    found = {}
    for num_prompts in (SAMPLE // 2, SAMPLE):
        _, report = corpus.prepare(DataConfig(source=source, num_prompts=num_prompts), seed=0)
        found[num_prompts] = report["num_prefixes"]
    assert (report["num_kept"], report["num_prefixes"]) == (KEPT, PREFIXES)
    assert math.log2(found[SAMPLE] / found[SAMPLE // 2]) > 0.95


def test_the_papers_optimiser_steps_are_those_that_the_file_names():
    ppo = load_profile("paper").ppo
    episodes = ppo.num_updates * ppo.num_ppo_epochs * ppo.episodes_per_update
    lines = PACKAGE.joinpath("study/profiles.toml").read_text(encoding="utf-8").partition("[paper.ppo]")[2].splitlines()
    (line,) = [line for line in lines if line.startswith("minibatch_size")]
    assert "recalled as 1, to confirm" in line
    assert f"{episodes:,} optimiser steps, and {episodes // ppo.minibatch_size:,} with {ppo.minibatch_size}" in line


def test_every_default_is_the_value_of_some_profile():
    """A default that no profile has is a trap for whoever makes a config without one."""
    profiles = [load_profile(name) for name in ("tiny", "small", "paper")]
    unused = [f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in fields(kind)
              if field.default is not MISSING
              and all(getattr(getattr(profile, section), field.name) != field.default for profile in profiles)]
    assert unused == []


def test_tiny_needs_no_hub():
    profile = load_profile("tiny")
    folders = [profile.images.model, *(judge.model for judge in profile.judges if judge.kind != "text_function")]
    assert profile.policy.pretrained == ""
    assert all(name.startswith(("npkit/", "npkit.")) for name in folders)


def test_settings_change_only_what_they_name():
    before = load_profile("tiny")
    after = load_profile("tiny", {"ppo.kl_coef": 0.5, "judges.aesthetic.model": "elsewhere", "sft.batch_size": None})
    assert after.ppo == override(before.ppo, kl_coef=0.5)
    assert after.judge("aesthetic").model == "elsewhere"
    assert after.judge("pickscore") == before.judge("pickscore")
    assert (after.data, after.sft, after.images) == (before.data, before.sft, before.images)


def test_whole_number_stands_for_a_float_and_becomes_one():
    assert repr(load_profile("tiny", {"ppo.kl_coef": 1}).ppo.kl_coef) == "1.0"


@pytest.mark.parametrize(("settings", "words"), [
    ({"ppo.klcoef": 0.1}, "did you mean 'ppo.kl_coef'"),
    ({"pppo.kl_coef": 0.1}, "unknown setting 'pppo.kl_coef'"),
    ({"ppo": 0.1}, "unknown setting 'ppo'"),
    ({"ppo.kl_coef.x": 0.1}, "unknown setting 'ppo.kl_coef.x'"),
    ({"judges.model": "x"}, "unknown setting 'judges.model'"),
    ({"judges.picscore.model": "x"}, "did you mean 'pickscore'"),
    ({"ppo.kl_coef": "0.1"}, "ppo.kl_coef takes a number, got '0.1'"),
    ({"ppo.kl_coef": True}, "ppo.kl_coef takes a number, got True"),
    ({"ppo.num_updates": 1.5}, "ppo.num_updates takes a whole number, got 1.5"),
    ({"ppo.num_updates": 0}, "ppo.num_updates must be 1 or more, got 0"),
    ({"data.num_prompts": 2**31}, "data.num_prompts must be 2,147,483,647 or less, got 2147483648"),
    ({"ppo.max_kl": 1e300}, "ppo.max_kl must be 2,147,483,647 or less"),
    ({"neurologic.length_penalty": 11.0}, "neurologic.length_penalty must be 10 or less, got 11.0"),
    ({"neurologic.beam_size": 1001}, "neurologic.beam_size must be 1,000 or less, got 1001"),
    ({"ppo.kl_coef": -0.1}, "ppo.kl_coef must be a finite number, 0 or more"),
    ({"ppo.kl_coef": float("nan")}, "ppo.kl_coef must be a finite number"),
    ({"ppo.reward_judge": "taste"}, "unknown judge 'taste'"),
    ({"evaluation.faithfulness": "taste"}, "a module:function or empty: unknown judge 'taste'"),
    ({"ppo.reward_weights": "pickscore:1, taste:1"}, "unknown judge 'taste'"),
    ({"ppo.reward_weights": "pickscore"}, "such as \"pickscore:1, aesthetic:0.5\", got 'pickscore' in 'pickscore'"),
    ({"ppo.reward_weights": "pickscore:1, aesthetic:much"}, "got 'aesthetic:much' in"),
    ({"ppo.reward_weights": "pickscore:1, aesthetic:nan"}, "got 'aesthetic:nan' in"),
    ({"ppo.reward_weights": "pickscore:0"}, "got 'pickscore:0' in"),
    ({"ppo.reward_weights": "pickscore:1, pickscore:2"}, "names each judge once"),
    ({"ppo.reward_weights": "pickscore:1,"}, "got '' in"),
    ({"ppo.reward_weights": "aesthetic:1"}, "leaves out ppo.reward_judge 'pickscore'"),
    ({"data.prefix_rule": "words:0"}, "words:k"),
    ({"data.test_share": 0.95}, "leave nothing for SFT"),
    ({"data.test_share": 1.5}, "data.test_share is a share between 0 and 1"),
    ({"judges.oracle.kind": "magic"}, "judges.oracle.kind is one of pickscore, aesthetic"),
])
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(NpkitError, match=words.replace(".", r"\.")):
        load_profile("tiny", settings)


def test_weights_of_the_reward():
    assert load_profile("tiny").ppo.weights == {"pickscore": 1.0}
    assert load_profile("tiny", {"ppo.reward_judge": "oracle"}).ppo.weights == {"oracle": 1.0}
    setting = parse_setting("ppo.reward_weights=pickscore:1, aesthetic: 0.5, clipscore:-2e-1")
    assert load_profile("small", dict([setting])).ppo.weights == {"pickscore": 1, "aesthetic": 0.5, "clipscore": -0.2}


def test_unknown_profile_is_refused():
    with pytest.raises(NpkitError, match="unknown profile 'tinny'; did you mean 'tiny'"):
        load_profile("tinny")


@pytest.mark.parametrize(("text", "setting", "value"), [
    ("ppo.kl_coef=0.1", "ppo.kl_coef", 0.1),
    ("sft.learning_rate=1e-5", "sft.learning_rate", 1e-5),
    ("ppo.num_updates = 1_000", "ppo.num_updates", 1000),
    ("data.source=a=b.txt", "data.source", "a=b.txt"),
    ("judges.pickscore.model=7", "judges.pickscore.model", "7"),
])
def test_setting_is_typed_by_its_field(text, setting, value):
    assert parse_setting(text) == (setting, value)
    assert type(parse_setting(text)[1]) is type(value)


@pytest.mark.parametrize(("text", "words"), [
    ("ppo.kl_coef", "a setting is written section.name=value"), ("ppo.kl_coef=", "takes a number, got ''"),
    ("ppo.kl_coef=a bit", "takes a number, got 'a bit'"), ("ppo.kl=1", "unknown setting 'ppo.kl'"),
])
def test_unreadable_setting_is_refused(text, words):
    with pytest.raises(NpkitError, match=words):
        parse_setting(text)


def test_override_names_what_is_wrong():
    config = PPOConfig(num_updates=1, episodes_per_update=1, minibatch_size=1, max_new_tokens=1)
    assert override(config, kl_coef=None) == config
    with pytest.raises(NpkitError, match="unknown setting 'kl'"):
        override(config, kl=0.1)
    with pytest.raises(NpkitError, match="num_updates takes a whole number, got '3'"):
        override(config, num_updates="3")
