"""SFT: what is trained on, what is measured, and that a killed run ends with the numbers of one that was not."""
import math

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from npkit.study.profiles import PolicyConfig, SFTConfig, load_profile, override
from npkit.text import policy
from npkit.training import sft
from npkit.training.packed_attention import attending_by_prompt

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=320, max_prompt_tokens=48)
SUBJECTS, MODIFIERS = ("cat", "castle", "moon", "red fox"), ("oil painting", "8 k", "sharp focus", "by alphonse mucha")
PROMPTS = [f"a {subject}, {first}, {second}" for subject in SUBJECTS for first in MODIFIERS for second in MODIFIERS]
CONFIG = SFTConfig(max_steps=12, batch_size=32, learning_rate=5e-3, save_steps=5)


@pytest.fixture(scope="module")
def data():
    splits = ["validation" if index % 8 == 0 else "sft" for index in range(len(PROMPTS))]
    return Dataset.from_dict({"prompt": PROMPTS, "split": splits})


def fresh():
    return policy.build_policy(SIZES, PROMPTS, seed=0)


def train(data, folder, callbacks=(), **changes):
    model, tokenizer = fresh()
    rows = sft.train_sft(model, tokenizer, data, override(CONFIG, **changes), seed=0, folder=folder,
                         max_prompt_tokens=48, callbacks=callbacks)
    return rows, model, tokenizer


class Killed(TrainerCallback):
    """Kills the run after a step that is no checkpoint."""

    def on_step_end(self, args, state, control, **others):
        if state.global_step == 8:
            raise InterruptedError


def test_prompts_are_encoded_with_eos_unless_cut():
    tokenizer = fresh()[1]
    short, long = sft.encode_prompts(tokenizer, ["a cat", "a cat, " * 20], 10)
    assert tokenizer.decode(short) == "a cat<|endoftext|>" and len(long) == 10
    assert sft.cut_share(tokenizer, [short, long, short, short]) == 0.25


def test_perplexity_of_a_uniform_policy_is_its_vocabulary():
    model, tokenizer = fresh()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert sft.perplexity(model, [[2, 3, 4], [5, 6]]) == pytest.approx(len(tokenizer))


def test_unigram_perplexity_by_hand():
    """After the first token: counts 0 twice, 1 once, Laplace over 2 tokens: 3/5 and 2/5."""
    assert sft.unigram_perplexity([[1, 0, 0, 1]], [[1, 0, 1]], 2) == pytest.approx(1 / math.sqrt(3 / 5 * 2 / 5))


def test_the_packed_loss_is_the_mean_over_all_tokens(data, tmp_path):
    """One step over the whole split: prompts packed into one row must not see each other."""
    model, tokenizer = fresh()
    with torch.no_grad():  # opinions strong enough to show who sees whom
        model.transformer.h[0].attn.c_attn.weight.mul_(20)
        model.transformer.wte.weight.mul_(5)
    expected = math.log(sft.perplexity(model, sft.encode_prompts(tokenizer, sft.prompts_of(data, "sft"), 48)))
    rows = sft.train_sft(model, tokenizer, data, override(CONFIG, max_steps=1, batch_size=1000), seed=0,
                         folder=tmp_path, max_prompt_tokens=48)
    assert rows[0]["train/loss"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("kind", "options"), [("gpt2", {}), ("llama", {"num_key_value_heads": 1}), ("gpt_neox", {})])
def test_packed_prompts_read_what_each_reads_alone(kind, options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, tie_word_embeddings=False, **options)).eval()
    prompts = [[3, 4, 5, 6, 7], [8], [9, 10, 11]]
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([{"input_ids": ids} for ids in prompts])
    batch.pop("labels")
    with attending_by_prompt(model):
        packed = model(**batch, use_cache=False).logits
    packed[0, :5].sum().backward()  # of the first prompt only
    gradient = model.get_input_embeddings().weight.grad
    alone = [model(input_ids=torch.tensor([ids])).logits for ids in prompts]
    torch.testing.assert_close(packed, torch.cat(alone, 1), atol=1e-5, rtol=1e-4)
    assert not gradient[8:12].any()
    assert model.config._attn_implementation == "sdpa"


def test_a_killed_run_goes_on_to_the_same_numbers(data, tmp_path):
    rows, model, _ = train(data, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(data, tmp_path / "killed", [Killed()])
    (tmp_path / "killed/checkpoint-8").mkdir()  # a checkpoint that was being written
    resumed_rows, resumed, _ = train(data, tmp_path / "killed")
    assert resumed_rows == rows and [row["step"] for row in rows] == [*range(1, 13), 12]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters()))


def test_training_teaches(data, tmp_path):
    rows, _, tokenizer = train(data, tmp_path, max_steps=40)
    ids = {split: sft.encode_prompts(tokenizer, sft.prompts_of(data, split), 48) for split in ("sft", "validation")}
    assert rows[-2]["train/loss"] < rows[0]["train/loss"] / 2
    assert rows[-1]["eval/perplexity"] < 0.5 * sft.unigram_perplexity(ids["sft"], ids["validation"], len(tokenizer))


def test_memorised_shares_by_hand(monkeypatch):
    """Four test prefixes, one of them too long; two samples are training prompts, one of these under a new prefix."""
    rows = [("sft", "a cat", "a cat, oil"), ("sft", "a cat on a moon", "a cat on a moon"), ("test", "a cat", "-"),
            ("test", "a cat on", "-"), ("test", "a fox", "-"), ("test", "a moon " * 60, "-"), ("test", "a fox", "-")]
    dataset = Dataset.from_dict(dict(zip(("split", "prefix", "prompt"), zip(*rows))))
    drawn = {"a cat": ", oil", "a cat on": " a moon", "a fox": ", oil"}
    monkeypatch.setattr(sft, "generate", lambda model, tokenizer, prefixes, **options: [drawn[p] for p in prefixes])
    assert sft.memorised_shares(fresh(), dataset, SIZES, seed=0) == (2 / 3, 1 / 2)


def test_write_policy(data, tmp_path):
    data = data.add_column("prefix", [prompt.partition(",")[0] for prompt in PROMPTS])
    data = concatenate_datasets([data, data.select(range(4)).map(lambda row: {"split": "test"})])
    settings = {"sft.max_steps": 3, "policy.num_layers": 1, "policy.hidden_size": 32, "policy.num_heads": 2}
    metrics = sft.write_policy(data, load_profile("tiny", settings), 0, tmp_path, tmp_path / "scratch", "cpu")
    rows = [line for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if line]
    assert len(rows) == 4 and metrics["sft/num_steps"] == 3 and metrics["sft/cut_share"] == 0
    assert metrics["sft/memorised_share"] == 0 and metrics["train/num_processes"] == 1
    model, tokenizer = policy.load_policy(tmp_path / "model")
    ids = sft.encode_prompts(tokenizer, sft.prompts_of(data, "validation"), 96)
    assert sft.perplexity(model, ids) == pytest.approx(metrics["eval/perplexity"], rel=1e-5)
