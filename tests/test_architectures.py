"""Architectures from scratch: as many weights each, and all that the study does with GPT-2 works with the others."""
import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig

from npkit.errors import NpkitError
from npkit.study.profiles import ARCHITECTURES, PolicyConfig, PPOConfig, SFTConfig, load_profile, override
from npkit.text import policy
from npkit.training import sft
from npkit.training.ppo import ActorCritic
from npkit.training.reinforcement import train_ppo

SIZES = PolicyConfig(num_layers=2, hidden_size=32, num_heads=2, vocab_size=320, max_prompt_tokens=48)
PROMPTS = [f"a {subject}, {style}, {word}" for subject in ("cat", "red castle", "moon") for style in ("oil", "8 k")
           for word in ("golden hour", "by mucha")] * 4
DATA = Dataset.from_dict({"prompt": PROMPTS, "split": ["validation" if row % 6 == 0 else "sft" for row in range(48)]})
CONFIG = SFTConfig(max_steps=12, batch_size=16, learning_rate=5e-3)


def build(name: str, sizes: PolicyConfig = SIZES) -> policy.Policy:
    return policy.build_policy(override(sizes, architecture=name), PROMPTS, seed=0)


def test_all_have_as_many_weights_within_a_tenth():
    sizes = load_profile("tiny").policy
    counts = {name: build(name, sizes)[0].num_parameters() for name in ARCHITECTURES}
    assert all(0.9 < count / counts["gpt2"] < 1.1 for count in counts.values()), counts


def test_the_default_is_gpt2_to_the_byte():
    model, tokenizer = policy.build_policy(SIZES, PROMPTS, seed=3)
    torch.manual_seed(3)
    expected = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, activation_function="gelu_pytorch_tanh", bos_token_id=0, eos_token_id=0, pad_token_id=1))
    assert type(model) is GPT2LMHeadModel and model.config.to_dict() == expected.config.to_dict()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), expected.parameters()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sft_teaches_and_no_prompt_sees_its_neighbour(name, tmp_path):
    model, tokenizer = build(name)
    ids = sft.encode_prompts(tokenizer, sft.prompts_of(DATA, "sft"), 48)
    untrained = sft.perplexity(model, ids)
    rows = sft.train_sft(model, tokenizer, DATA, override(CONFIG, max_steps=1, batch_size=1000), seed=0,
                         folder=tmp_path / "one", max_prompt_tokens=48)
    assert rows[0]["train/loss"] == pytest.approx(math.log(untrained), abs=1e-4)
    rows = sft.train_sft(model, tokenizer, DATA, CONFIG, seed=0, folder=tmp_path / "more", max_prompt_tokens=48)
    assert rows[-1]["eval/perplexity"] < untrained / 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_samples_depend_on_no_neighbour_and_survive_saving(name, tmp_path):
    built, prefixes = build(name), ["a cat", "a red castle, oil, by mucha", "a moon, 8 k"]
    options = {"max_new_tokens": 8, "generator_seed": 0}
    together = policy.generate(*built, prefixes, **options)
    assert policy.generate(*built, prefixes, batch_size=1, **options) == together
    policy.save_policy(*built, tmp_path)
    assert policy.generate(*policy.load_policy(tmp_path), prefixes, **options) == together
    with pytest.raises(NpkitError, match="the policy's limit is 40"):
        policy.generate(*built, ["a cat, " * 30], **options)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_ppo_trains_any_of_them(name, tmp_path):
    config = PPOConfig(num_updates=2, episodes_per_update=8, minibatch_size=4, num_ppo_epochs=1, max_new_tokens=6)
    (model, tokenizer), (reference, _) = build(name), build(name)
    before = [value.clone() for value in model.parameters()]
    rows = train_ppo(model, reference, tokenizer, ["a cat", "a red castle, oil"] * 8,
                     lambda prefixes, completions: [text.count("a") for text in completions], config, seed=0,
                     folder=tmp_path, max_prompt_tokens=48)
    assert abs(rows[0]["objective/kl"]) < 1e-5 and math.isfinite(rows[1]["objective/kl"])
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters()))


@pytest.mark.parametrize("name", [*ARCHITECTURES, "checkpoint"])
def test_no_dropout_in_ppo(name, tmp_path):
    """Configured as a module (GPT-2) or as a number that the attention reads (Llama, GPT-NeoX), and in a checkpoint."""
    if name == "checkpoint":
        config = LlamaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                             intermediate_size=64, attention_dropout=0.5, pad_token_id=1, eos_token_id=0)
        policy.save_policy(AutoModelForCausalLM.from_config(config), build("gpt2")[1], tmp_path)
        model = policy.load_policy(tmp_path)[0]
    else:
        model = build(name)[0]
    for part in model.modules():  # every dropout there is, in whichever way it is written
        for field in ("p", "attention_dropout", "hidden_dropout"):
            if isinstance(getattr(part, field, None), float):
                setattr(part, field, 0.5)
    ids = torch.randint(2, 300, (2, 20), generator=torch.Generator().manual_seed(0))
    model.train()
    if name != "mamba":  # which has none
        assert not torch.equal(model(ids).logits, model(ids).logits), "the test needs dropout"
    learner = ActorCritic(model).train()
    (logits, values), (again, same) = (learner(ids, torch.ones_like(ids)) for _ in range(2))
    assert torch.equal(logits, again) and torch.equal(values, same)
    loss = logits.logsumexp(-1).mean()
    loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0, "and it learns all the same"


def test_settings_name_what_is_allowed():
    with pytest.raises(NpkitError, match="policy.architecture is one of gpt2, llama, gpt_neox, mamba, got 'rwkv'"):
        load_profile("tiny", {"policy.architecture": "rwkv"})
    with pytest.raises(NpkitError, match="policy.architecture is for a policy from scratch: 'gpt2' has its own"):
        load_profile("tiny", {"policy.architecture": "llama", "policy.pretrained": "gpt2"})
