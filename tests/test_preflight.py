"""Preflight: what a notebook would refuse after minutes the plan refuses, in one sentence that names the setting."""
import re

import pytest
from transformers import AutoConfig

from npkit.errors import Faults, NpkitError
from npkit.study import preflight, runner
from npkit.study.artifacts import STAGES, open_run
from npkit.text import corpus
from npkit.text.policy import train_tokenizer

SMALL = {"data.num_prompts": 1000, "data.ppo_share": 0.3, "evaluation.num_prefixes": 50}


@pytest.mark.parametrize(("settings", "words"), [
    ({"policy.architecture": "mamba"}, r"policy.architecture 'mamba' keeps no keys and values.*--until 04_ppo"),
    ({"data.num_prompts": 240, "evaluation.num_prefixes": 5, "data.ppo_share": 0.05},
     r"ppo.episodes_per_update = 64, and this corpus gives it \d+ of at most 128 tokens: lower it, raise"),
    ({"evaluation.num_prefixes": 5000}, r"evaluation.num_prefixes is 5000, but the test split has"),
    ({"ppo.max_new_tokens": 190}, r"ppo.max_new_tokens is 190, and PPO has a prefix of \d+ tokens: together more"),
    ({"neurologic.max_new_tokens": 3}, r"notebook 05 cannot decode .* need \d+ new tokens, max_new_tokens is 3"),
])
def test_what_would_be_refused_late_is_refused_first(npkit_home, settings, words):
    with pytest.raises(NpkitError, match=words):
        runner.plan("tiny", settings=SMALL | settings)
    assert not npkit_home.exists()


@pytest.mark.parametrize(("settings", "words"), [
    ({"images.model": "npkit.errors:NpkitError"}, r"images.model .* is no DiffusionPipeline that is made without"),
    ({"images.model": "npkit/glyphworld/weights/eye"}, r"images.model .* is no diffusers pipeline"),
    ({"images.scheduler": "DDIMScheduler"}, r"images.scheduler is 'DDIMScheduler', and .*Painter has no scheduler"),
    ({"images.dtype": "float33"}, r"images.dtype is a torch type .* got 'float33'"),
    ({"judges.pickscore.model": "npkit/glyphworld/weights/eye"}, r"judges.pickscore.model .* is no CLIP model"),
    ({"images.model": ""}, "images.model is empty"),
    ({"images.model": "a/b/c/d"}, "images.model is a folder, a hub id or a module:class, got 'a/b/c/d'"),
    ({"judges.pickscore.model": "math:sqrt"}, "judges.pickscore.model is a folder or a hub id, got 'math:sqrt'"),
    ({"judges.pickscore.processor": "npkit/glyphworld/weights/eye"}, "needs a tokenizer and a preprocessor_config"),
    ({"judges.aesthetic.head": "npkit/glyphworld/weights/eye/normalisation.json"}, "no tensors that can be loaded"),
    ({"judges.aesthetic.head": "npkit/glyphworld/weights/eye/eye.safetensors"}, "is no LAION aesthetic head"),
    ({"judges.aesthetic.head": ""}, r"judges.aesthetic.head is empty: a judge of kind aesthetic needs one"),
    ({"judges.oracle.model": "npkit.glyphworld.people.public:liked_words"},
     r"judges.oracle.model .* must be a function of \(prefixes, pictures, head\)"),
    ({"evaluation.faithfulness": "math:nothing"}, "evaluation.faithfulness: .* module:function, got 'math:nothing'"),
    ({"evaluation.faithfulness_head": ""}, "evaluation.faithfulness: .*head is empty"),
])
def test_painter_and_judges_that_cannot_be_loaded(settings, words):
    faults = Faults()
    preflight.check_scoring(open_run("evaluation", "tiny", 0, settings), faults)
    with pytest.raises(NpkitError, match=words):
        faults.tell()


def test_the_plan_looks_at_painter_and_judges(npkit_home):
    with pytest.raises(NpkitError, match="images.dtype is a torch type"):
        runner.plan("tiny", settings={"images.dtype": "float33"})
    assert not npkit_home.exists()


def test_all_that_is_wrong_is_told_in_sentences_of_their_own(npkit_home):
    settings = {"data.num_prompts": 240, "data.ppo_share": 0.05, "data.validation_share": 0.001,
                "evaluation.num_prefixes": 3, "policy.architecture": "mamba", "neurologic.max_new_tokens": 3,
                "neurologic.beam_size": 1, "ppo.max_new_tokens": 190, "evaluation.max_new_tokens": 191}
    with pytest.raises(NpkitError) as told:
        runner.plan("tiny", settings=settings)
    words = ("policy.architecture 'mamba' keeps no keys", "neurologic.beam_size is 1", "evaluation.num_prefixes is 3",
             "no test prefix of this corpus has at most 0 tokens",
             "evaluation.max_new_tokens is 191, and the test split has", "ppo.episodes_per_update = 64",
             "notebook 04 compares policies on 4 or more validation prefixes, and this corpus has 1 of",
             "ppo.max_new_tokens is 190, and PPO has", "new tokens, max_new_tokens is 3")
    sentences = str(told.value).splitlines()
    assert len(sentences) == len(words) and all(word in sentence for word, sentence in zip(words, sentences))
    with pytest.raises(NpkitError) as told:
        runner.plan("tiny", settings=settings | {"data.source": __file__})
    assert [word in str(told.value) for word in (words[0], "is no corpus", "cannot decode")] == [True, True, False]
    assert not npkit_home.exists()


def test_room_is_what_a_pretrained_policy_was_made_for(tmp_path):
    AutoConfig.for_model("gpt2", n_positions=32, vocab_size=300).save_pretrained(tmp_path)
    train_tokenizer(["a fox"], 300).save_pretrained(tmp_path)
    with pytest.raises(NpkitError) as told:
        runner.plan("tiny", settings=SMALL | {"policy.pretrained": str(tmp_path)})
    assert f"policy.max_prompt_tokens is 192, and policy.pretrained '{tmp_path}' was made for 32" in str(told.value)
    assert "no test prefix of this corpus has at most 0 tokens" in str(told.value)
    assert re.search(r"evaluation.max_new_tokens is 24, .* the policy's 32 \(policy.pretrained\)", str(told.value))


def test_a_pretrained_policy_on_this_machine_is_looked_at(tmp_path):
    AutoConfig.for_model("mamba").save_pretrained(tmp_path / "mamba")
    settings = {"policy.pretrained": str(tmp_path / "mamba"), "policy.architecture": "gpt2"}
    with pytest.raises(NpkitError, match=f"policy.pretrained '{tmp_path}/mamba' keeps no keys and values"):
        runner.plan("tiny", settings=settings)


def test_a_plan_looks_at_the_stages_that_it_makes():
    mamba = SMALL | {"policy.architecture": "mamba"}
    assert len(runner.plan("tiny", settings=mamba, until="ppo").runs) == 5
    few = SMALL | {"data.num_prompts": 240, "evaluation.num_prefixes": 5, "data.ppo_share": 0.05}
    assert len(runner.plan("tiny", settings=few, until="sft").runs) == 3
    assert len(runner.plan("tiny", settings=SMALL).runs) == len(STAGES)


def test_prompts_are_those_of_the_artifact_where_there_is_one(monkeypatch):
    run = open_run("data", "tiny", 0, SMALL)
    run.make(lambda folder: corpus.write_corpus(run.config.data, 0, folder))
    monkeypatch.setattr(corpus, "prepare", lambda *config: pytest.fail("the artifact is there"))
    assert len(preflight.find_corpus(run).prompts) == run.artifact.metrics["data/num_prompts"]


def test_the_study_as_it_is_shipped_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(preflight, "check", lambda runs: pytest.fail("costs seconds"))
    assert len(runner.plan("tiny").runs) == len(runner.plan("tiny", 1, {"ppo.kl_coef": 0.2}).runs) == len(STAGES)
