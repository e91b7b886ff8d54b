"""What a training would refuse after minutes is refused while the study is planned."""
import pytest
from datasets import Dataset, concatenate_datasets

from npkit.errors import NpkitError
from npkit.study.artifacts import STAGES
from npkit.study.profiles import load_profile
from npkit.text import policy
from npkit.training.assembly import refuse_early

PROMPTS = [f"a {word} {thing}, oil painting, 8k" for word in ("red", "blue", "tall", "old") for thing in ("cat", "fox")]
TRAINING = ("glyphworld", "data", "sft", "ppo")


def corpus(num_ppo: int, prefix: str = "a cat number {}") -> Dataset:
    rows = [(prompt, prompt.partition(",")[0], "sft") for prompt in PROMPTS * 5]
    rows += [(f"{prefix.format(number)}, vivid", prefix.format(number), "ppo") for number in range(num_ppo)]
    return Dataset.from_dict(dict(zip(("prompt", "prefix", "split"), zip(*rows))))


def refused(settings: dict, dataset: Dataset, stages=tuple(STAGES)) -> str:
    with pytest.raises(NpkitError) as error:
        refuse_early(load_profile("tiny", settings), dataset, stages)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_study_that_will_work_is_planned():
    refuse_early(load_profile("tiny"), corpus(64))
    for profile in ("small", "paper"):  # of which nothing is on this machine
        refuse_early(load_profile(profile), corpus(128))


def test_fewer_prefixes_than_an_update_needs():
    said = refused({}, corpus(63))
    assert "ppo.episodes_per_update = 64, and the corpus leaves 63" in said
    assert "data.ppo_share (now 0.05)" in said
    refuse_early(load_profile("tiny", {"ppo.episodes_per_update": 63}), corpus(63))
    refuse_early(load_profile("tiny"), corpus(2), stages=("data", "sft"))


def test_equal_prefixes_count_once_and_long_ones_not():
    assert "leaves 1 of" in refused({}, corpus(64, prefix="a cat"))
    assert "leaves 0 of" in refused({}, corpus(64, prefix="zebra {} " + "crossing quickly " * 9))


def test_the_best_policy_needs_prefixes_that_the_notebook_does_not_show():
    few = Dataset.from_dict({"prompt": ["a, b"] * 48, "prefix": [f"fox {n}" for n in range(48)],
                             "split": ["validation"] * 48})
    assert "more than 48 validation prefixes, and the corpus has 48" in refused(
        {"ppo.final_policy": "best"}, concatenate_datasets([corpus(64), few]))
    refuse_early(load_profile("tiny"), concatenate_datasets([corpus(64), few]))
    one = Dataset.from_dict({"prompt": ["a, b"], "prefix": ["one more"], "split": ["validation"]})
    refuse_early(load_profile("tiny", {"ppo.final_policy": "best"}), concatenate_datasets([corpus(64), few, one]))


def test_a_policy_without_keys_and_values_cannot_be_decoded(tmp_path):
    said = refused({"policy.architecture": "mamba"}, corpus(64))
    assert "'mamba' keeps no keys and values" in said and "--until 04_ppo" in said
    refuse_early(load_profile("tiny", {"policy.architecture": "mamba"}), corpus(64), TRAINING)
    config = load_profile("tiny", {"policy.architecture": "mamba", "policy.num_layers": 1}).policy
    policy.save_policy(*policy.build_policy(config, PROMPTS, seed=0), tmp_path)
    assert "keeps no keys and values" in refused({"policy.pretrained": str(tmp_path)}, corpus(64))
    for kind in ("gpt2", "llama", "gpt_neox"):
        refuse_early(load_profile("tiny", {"policy.architecture": kind}), corpus(64))


@pytest.mark.parametrize("section", ["ppo", "neurologic", "evaluation"])
def test_a_completion_needs_room_behind_the_longest_prefix(section):
    said = refused({f"{section}.max_new_tokens": 65}, corpus(64))
    assert f"policy.max_prefix_tokens 32 and {section}.max_new_tokens 65 are more than" in said
    assert "policy.max_prompt_tokens 96" in said
    refuse_early(load_profile("tiny", {f"{section}.max_new_tokens": 64}), corpus(64))
