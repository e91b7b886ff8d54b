"""Policy: tokenizer, loading, sampling that ignores order and batches, and log-probabilities worked by hand."""
import json
import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from npkit.errors import NpkitError, PrefixTooLong, PromptTooLong
from npkit.study.profiles import PolicyConfig
from npkit.text import policy

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=300, max_prompt_tokens=64)
PROMPTS = ["a cat, oil painting, 8 k", "a red castle tower, sharp focus", "the moon at night, by alphonse mucha"] * 5
PREFIXES = ["a cat", "the moon at night", "a red castle tower in the snow", "a cat", "moon"]


@pytest.fixture(scope="module")
def built():
    return policy.build_policy(SIZES, PROMPTS, seed=0)


@pytest.fixture
def uniform():
    """A policy for which every token is equally likely."""
    model, tokenizer = policy.build_policy(SIZES, PROMPTS, seed=0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model, tokenizer


def sample(built, prefixes=PREFIXES, **changes) -> list[str]:
    return policy.generate(*built, prefixes, **{"max_new_tokens": 12, "generator_seed": 0, **changes})


def test_tokenizer_spells_anything(built):
    tokenizer = built[1]
    text = "Café 🤖,  sci - fi\n8 k"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (policy.EOS, policy.EOS, policy.PAD)
    assert len(tokenizer) == built[0].config.vocab_size <= SIZES.vocab_size
    assert len(tokenizer(" castle tower")["input_ids"]) < len(" castle tower") / 2  # frequent words are few tokens


def test_build_is_repeatable_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (policy.build_policy(SIZES, PROMPTS, seed)[0].transformer.wte.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_saved_policy_loads_unchanged(built, tmp_path):
    policy.save_policy(*built, tmp_path)
    model, tokenizer = policy.load_policy(tmp_path)
    assert sample((model, tokenizer)) == sample(built)
    assert torch.equal(model.lm_head.weight, built[0].lm_head.weight)
    again = policy.build_policy(PolicyConfig(pretrained=str(tmp_path)), [], seed=0)
    assert torch.equal(again[0].lm_head.weight, model.lm_head.weight)


def test_a_pretrained_policy_without_pad_token_gets_its_own(tmp_path):
    """As GPT-2 on the hub: its only special token is EOS."""
    words = {word: index for index, word in enumerate([policy.EOS, "a", "cat", ",", "oil"])}
    tokens = Tokenizer(models.WordLevel(words, unk_token=policy.EOS))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=policy.EOS)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=16, n_embd=8, n_layer=1, n_head=1,
                                       bos_token_id=0, eos_token_id=0))
    policy.save_policy(model, tokenizer, tmp_path)
    loaded, with_pad = policy.load_policy(tmp_path)
    assert with_pad.pad_token_id == loaded.config.pad_token_id == 5 and with_pad.eos_token_id == 0
    rows = loaded.get_input_embeddings().weight
    assert torch.allclose(rows[5], rows[:5].mean(0)) and torch.equal(rows[:5], model.get_input_embeddings().weight)
    policy.save_policy(loaded, with_pad, tmp_path / "again")
    assert policy.load_policy(tmp_path / "again")[0].config.vocab_size == 6  # no second pad token


def test_what_cannot_be_loaded(built, tmp_path):
    with pytest.raises(NpkitError, match="neither a folder nor"):
        policy.load_policy(tmp_path / "missing")
    built[0].save_pretrained(tmp_path / "bare")
    with pytest.raises(NpkitError, match="has no tokenizer"):
        policy.load_policy(tmp_path / "bare")
    small = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0))
    policy.save_policy(small, built[1], tmp_path / "mixed")
    with pytest.raises(NpkitError, match="do not belong together"):
        policy.load_policy(tmp_path / "mixed")


def test_folders_that_hold_no_policy(built, tmp_path):
    notes, torn, strange = (tmp_path / name for name in ("notes", "torn", "strange"))
    notes.mkdir()
    (notes / "readme.txt").write_text("no model here")
    for folder in (torn, strange):
        policy.save_policy(*built, folder)
    weights = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(weights[:len(weights) // 2])
    (strange / "config.json").write_text('{"model_type": "no_such_model"}')
    for folder in (notes, torn, strange):
        with pytest.raises(NpkitError, match="is no causal language model that can be loaded") as caught:
            policy.build_policy(PolicyConfig(pretrained=str(folder)), [], seed=0)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_the_fast_gelu_of_a_loaded_gpt2_is_the_same_function(built, tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(built[1]), n_positions=64, n_embd=32, n_layer=2, n_head=2)).eval()
    policy.save_policy(model, built[1], tmp_path)
    loaded = policy.load_policy(tmp_path)[0].eval()
    assert (model.config.activation_function, loaded.config.activation_function) == ("gelu_new", "gelu_pytorch_tanh")
    ids = torch.arange(2, 60)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, loaded(ids).logits, atol=1e-5)


def test_the_loss_of_a_padded_batch_is_the_mean_over_its_tokens(built):
    """GPT-2's loss has no name until `build_policy` gives it one; without it Trainer deflates padded batches."""
    model, tokenizer = built
    assert model.loss_type == "ForCausalLM"
    ids, mask = policy.pad([tokenizer("a cat")["input_ids"], tokenizer(PROMPTS[1])["input_ids"]], model, "right")
    logprobs = torch.cat(policy.token_logprobs(model, [row[keep].tolist() for row, keep in zip(ids, mask)]))
    labels = ids.masked_fill(~mask, -100)
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=len(logprobs)).loss
    assert loss.item() == pytest.approx(-logprobs.mean().item(), abs=1e-5)


def test_neither_order_nor_batches_change_a_completion(built):
    together = sample(built)
    assert sample(built, batch_size=2) == sample(built, batch_size=1) == together
    order = [4, 2, 0, 3, 1]
    assert sample(built, [PREFIXES[index] for index in order]) == [together[index] for index in order]


def test_seeds_and_repeated_prefixes_give_new_draws(built):
    first, again, other = sample(built), sample(built), sample(built, generator_seed=1)
    assert first == again and not set(first) & set(other)
    assert first[0] != first[3]  # the same prefix twice


def test_sampling_leaves_the_global_generator_and_the_mode_alone(built):
    state = torch.random.get_rng_state()
    built[0].train()
    sample(built)
    assert torch.equal(state, torch.random.get_rng_state()) and built[0].training


def test_gumbel_noise_samples_from_the_softmax():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for temperature, expected in ((1.0, [0.5, 0.3, 0.2]), (0.5, [25 / 38, 9 / 38, 4 / 38])):
        noise = policy.GumbelNoise([torch.Generator().manual_seed(0)], temperature)
        draws = torch.cat([noise(None, logits).argmax(-1) for _ in range(4000)])
        assert (draws.bincount() / 4000).tolist() == pytest.approx(expected, abs=0.025)


def test_sampled_texts_end_at_eos_and_hold_no_special_token(uniform):
    tokenizer = uniform[1]
    texts = sample(uniform, ["a cat"] * 64, max_new_tokens=60)
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert min(lengths) < 40 and not any("<|" in text for text in texts)


def test_greedy_takes_the_likeliest_token(built):
    model, tokenizer = built
    ids = tokenizer("a cat")["input_ids"]
    with torch.no_grad():
        best = model(torch.tensor([ids])).logits[0, -1].argmax().item()
    texts = sample(built, ["a cat", "a red castle tower in the snow"], do_sample=False, max_new_tokens=1)
    assert texts[0] == tokenizer.decode([best])


def test_prefixes_that_cannot_be_continued(built):
    with pytest.raises(PrefixTooLong, match=r"prefix has \d+ tokens, the policy's limit is 52"):
        sample(built, ["a cat", "castle moon " * 30])
    with pytest.raises(NpkitError, match="the prefix is empty"):
        sample(built, ["a cat", " "])
    with pytest.raises(NpkitError, match="temperature must be above 0"):
        sample(built, temperature=0)
    assert sample(built, []) == []
    assert policy.fits(built[1], ["a cat", "castle moon " * 30, ""], 10) == [True, False, False]


def test_broken_letters_leave_room_to_be_scored(built):
    """Pieces of letters, once decoded, take three tokens each; too many of them are refused in a sentence."""
    model, tokenizer = built
    limit = policy.longest_scored_prefix(SIZES, 6)
    assert limit == 64 - 3 * 6 - 1
    prefix = tokenizer.decode(tokenizer("a" + " a" * 100)["input_ids"][:limit])
    assert len(tokenizer(prefix)["input_ids"]) == limit
    assert len(tokenizer("\ufffd" * 6)["input_ids"]) == 3 * 6
    assert policy.sequence_logprobs(model, tokenizer, [prefix], ["\ufffd" * 6])[0] < 0
    with pytest.raises(PromptTooLong, match="a prompt has 67 tokens with EOS, and the policy takes 64"):
        policy.sequence_logprobs(model, tokenizer, [prefix], ["\ufffd" * 7])


def test_logprobs_of_a_uniform_policy(uniform):
    """Completion and EOS: n + 1 tokens of log-probability -log(vocabulary)."""
    tokenizer = uniform[1]
    completions = [", oil painting", ""]
    num_tokens = [len(tokenizer(text)["input_ids"]) + 1 for text in completions]
    expected = [-count * math.log(len(tokenizer)) for count in num_tokens]
    assert policy.sequence_logprobs(*uniform, ["a cat", "the moon at night"], completions) == pytest.approx(expected)


def test_logprobs_agree_with_the_model_and_ignore_padding(built):
    model, tokenizer = built
    prefixes, completions = ["a cat", "a red castle tower in the snow"], [", oil", ", 8 k, sharp focus"]
    ids = torch.tensor([tokenizer(prefixes[0] + completions[0])["input_ids"] + [tokenizer.eos_token_id]])
    with torch.no_grad():
        rows = model(ids).logits[0].log_softmax(-1)
    start = len(tokenizer(prefixes[0])["input_ids"])
    expected = sum(rows[place - 1, ids[0, place]].item() for place in range(start, ids.shape[1]))
    both = policy.sequence_logprobs(model, tokenizer, prefixes, completions)
    assert both[0] == pytest.approx(expected, abs=1e-4)
    alone = policy.sequence_logprobs(model, tokenizer, prefixes[1:], completions[1:])
    assert both[1] == pytest.approx(alone[0], abs=1e-4)


# Settings that a checkpoint brings along ------------------------------------------------------------------------------
HOSTILE = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_p": 0.9, "num_beams": 3, "top_k": 2,
           "typical_p": 0.1, "bad_words_ids": [[40], [41]], "forced_eos_token_id": 7, "min_new_tokens": 11,
           "exponential_decay_length_penalty": [1, 9.0], "suppress_tokens": [6, 8], "top_p": 0.2, "max_length": 3,
           "begin_suppress_tokens": [50, 51], "sequence_bias": [[[44], -9.0]], "temperature": 9.0, "do_sample": True}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_settings_of_a_checkpoint_change_no_sample(built, tmp_path, name):
    """Neither of one that `load_policy` reads, nor of a model that came another way."""
    policy.save_policy(*built, tmp_path)
    stored = json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps(stored | {name: HOSTILE[name]}))
    loaded = policy.load_policy(tmp_path)
    default = getattr(policy.plain_generation(built[1]), name)
    assert getattr(loaded[0].generation_config, name) == default != HOSTILE[name]
    stranger = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert getattr(stranger.generation_config, name) == HOSTILE[name]
    for changes in ({}, {"do_sample": False}):
        expected = sample(built, **changes)
        assert sample(loaded, **changes) == expected
        assert sample((stranger, built[1]), **changes) == expected
    assert getattr(stranger.generation_config, name) == HOSTILE[name], "a model that was lent is given back as it was"


def test_settings_in_an_old_config_file_change_no_sample(built, tmp_path):
    policy.save_policy(*built, tmp_path)
    (tmp_path / "generation_config.json").unlink()
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored | {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1}))
    assert sample(policy.load_policy(tmp_path)) == sample(built)


def test_padding_is_never_written():
    model, tokenizer = policy.build_policy(SIZES, PROMPTS, seed=0)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    model.lm_head.bias.data[tokenizer.pad_token_id] = 50.0
    found = policy.generate_ids(model, tokenizer, PREFIXES, max_new_tokens=6, generator_seed=0)
    assert all(found) and not any(tokenizer.pad_token_id in row for row in found)
