"""GRPO and RLOO in PPO's place: the same rows, samples and promise to resume, with GPT-2's positions put right."""
import copy
import math
import re

import pytest
import torch
from fixtures_toy import CONFIG, PREFIXES, Killed, killed_at, share_of_a, toy_policy, toy_tokenizer
from torch import tensor
from transformers import AutoConfig, AutoModelForCausalLM

from npkit.errors import NpkitError
from npkit.study.profiles import load_profile, override
from npkit.text.policy import load_policy, pad
from npkit.training.grpo import (
    GroupReward,
    count_positions,
    group_trainer,
    prefixes_in_order,
    steps_per_update,
    trainer_settings,
)
from npkit.training.ppo_math import token_logprobs
from npkit.training.reinforcement import train_ppo, write_policy
from npkit.training.rollouts import PolicyAlone, read_samples

GROUPS = override(CONFIG, num_generations=4, algorithm="grpo")
HELDOUT = ["a cat in the snow", "a castle"]
each_algorithm = pytest.mark.parametrize("algorithm", ["grpo", "rloo"])


@pytest.fixture(scope="module")
def tokenizer():
    return toy_tokenizer()


def train(tokenizer, folder, algorithm, *, config=GROUPS, reward=share_of_a, **arguments):
    """Train a fresh toy policy; return it with its rows."""
    policy = toy_policy(tokenizer)
    rows = train_ppo(policy, copy.deepcopy(policy), tokenizer, PREFIXES, reward,
                     override(config, algorithm=algorithm), seed=3, folder=folder, max_prompt_tokens=48, **arguments)
    return policy, rows


# 1. Settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("settings", "words"), [
    ({"ppo.algorithm": "dpo"}, "ppo.algorithm is one of ppo, grpo, rloo, got 'dpo'"),
    ({"ppo.algorithm": "grpo", "ppo.num_generations": 1}, "num_generations must be 2 or more for grpo"),
    ({"ppo.algorithm": "rloo", "ppo.num_generations": 6}, "multiple of ppo.num_generations, got 64 and 6"),
    ({"ppo.algorithm": "grpo", "ppo.minibatch_size": 24}, "multiple of ppo.minibatch_size, got 64 and 24"),
    ({"ppo.final_policy": "first"}, "ppo.final_policy is one of last, best, got 'first'"),
    ({"ppo.final_policy": "best", "ppo.eval_updates": 0}, "ppo.eval_updates must be 1 or more")])
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(NpkitError, match=words.replace(".", r"\.")):
        load_profile("tiny", settings)


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
@each_algorithm
def test_the_algorithm_is_all_that_a_profile_needs_to_change(name, algorithm):
    ppo = load_profile(name, {"ppo.algorithm": algorithm}).ppo
    assert ppo == override(load_profile(name).ppo, algorithm=algorithm)


def test_prefixes_come_in_shuffled_passes_that_the_seed_decides():
    texts = [f"prefix {number}" for number in range(5)]
    order = prefixes_in_order(texts, GROUPS, seed=1)  # 4 updates of 2 prefixes
    assert len(order) == 8
    assert sorted(order[:5]) == texts
    assert order == prefixes_in_order(texts, GROUPS, seed=1) != prefixes_in_order(texts, GROUPS, seed=2)


# 2. Positions and rewards --------------------------------------------------------------------------------------------
def test_left_padding_does_not_move_positions(tokenizer):
    """Without the hook the log-probabilities of a left-padded text are those of other positions."""
    policy = toy_policy(tokenizer).eval()
    torch.nn.init.normal_(policy.transformer.wpe.weight)
    rows = [tokenizer(text)["input_ids"] for text in PREFIXES[:2]]
    right, left = (pad(rows, policy, side) for side in ("right", "left"))

    def last_logprobs(ids, mask):
        with torch.no_grad():
            logprobs = token_logprobs(policy(ids, attention_mask=mask).logits[:, :-1], ids[:, 1:])
        return torch.stack([row[keep][-1] for row, keep in zip(logprobs, mask[:, 1:])])

    expected = last_logprobs(*right)
    assert not torch.allclose(last_logprobs(*left), expected, atol=1e-2)
    policy.base_model.register_forward_pre_hook(count_positions, with_kwargs=True)
    assert torch.allclose(last_logprobs(*left), expected, atol=1e-5)
    assert torch.allclose(last_logprobs(*right), expected, atol=1e-5)


def test_both_models_of_the_trainer_count_positions(tokenizer, tmp_path):
    policy = toy_policy(tokenizer)
    trainer = group_trainer(policy, toy_policy(tokenizer), tokenizer, PREFIXES, share_of_a, GROUPS, seed=3,
                            folder=tmp_path, callbacks=[])
    for model in (trainer.model, trainer.ref_model):
        assert count_positions in model.base_model._forward_pre_hooks.values()
    assert all(torch.equal(ours, theirs) for ours, theirs in
               zip(trainer.ref_model.state_dict().values(), policy.state_dict().values(), strict=True))


def test_a_completion_without_eos_pays_and_the_rollout_is_logged(tokenizer, tmp_path):
    policy = toy_policy(tokenizer).eval()
    reward = GroupReward(policy, copy.deepcopy(policy), tokenizer, share_of_a, GROUPS, tmp_path)
    words = tokenizer(" a a")["input_ids"]
    metrics = {}
    paid = reward(["a fox", "a cat"], [" a a", " a a"], [words, [*words, tokenizer.eos_token_id]],
                  trainer_state=type("State", (), {"global_step": 4})(), log_metric=metrics.__setitem__)
    assert paid == pytest.approx([0.5 - 1.0, 0.5])
    assert metrics["objective/finished"] == 0.5
    assert metrics["objective/kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["objective/distinct_share"] == 0.5
    assert metrics["objective/completion_tokens"] == len(words) + 0.5
    samples = read_samples(tmp_path)
    assert samples["update"].tolist() == [4 // steps_per_update(GROUPS) + 1] * 2
    assert samples["score"].tolist() == [0.5, 0.5], "the score is the reward's, the penalty is not in it"


def test_without_a_critic_every_value_is_zero(tokenizer):
    logits, values = PolicyAlone(toy_policy(tokenizer))(tensor([[5, 6, 7]]), tensor([[1, 1, 1]]))
    assert logits.shape[:2] == values.shape == (1, 2)
    assert not values.any()


# 3. Training ---------------------------------------------------------------------------------------------------------
@each_algorithm
def test_a_killed_run_ends_as_if_it_was_not(tokenizer, tmp_path, algorithm):
    whole, expected = train(tokenizer, tmp_path / "whole", algorithm, heldout=HELDOUT)
    with pytest.raises(Killed):
        train(tokenizer, tmp_path / "broken", algorithm, heldout=HELDOUT, reward=killed_at(4))
    torch.rand(17)
    resumed, rows = train(tokenizer, tmp_path / "broken", algorithm, heldout=HELDOUT)
    assert rows == expected
    assert all(torch.equal(ours, theirs) for ours, theirs in
               zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True))
    assert not torch.equal(whole.transformer.wte.weight, toy_policy(tokenizer).transformer.wte.weight)
    assert read_samples(tmp_path / "broken").equals(read_samples(tmp_path / "whole"))


@each_algorithm
def test_rows_and_artifact_are_those_of_ppo_without_a_critic(tokenizer, tmp_path, algorithm, recwarn):
    _, ppo_rows = train(tokenizer, tmp_path / "ppo", "ppo", heldout=HELDOUT)
    policy, rows = train(tokenizer, tmp_path / "groups", algorithm, heldout=HELDOUT)
    missing = {"policy/approx_kl", "value/loss", "value/explained_variance"}
    assert set(ppo_rows[-1]) - set(rows[-1]) == missing
    assert set(rows[-1]) - set(ppo_rows[-1]) == {"group/same_score_share"}
    assert [row["update"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[-1]["episodes"] == 32
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert rows[1]["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["objective/kl"] != 0
    samples = read_samples(tmp_path / "groups")
    assert samples.groupby("update")["prefix"].nunique().tolist() == [2] * 4
    assert set(samples) == {"update", "prefix", "completion", "score"}
    metrics = write_policy(tmp_path / "artifact", policy, tokenizer, rows, samples, tmp_path / "groups")
    best = max((row for row in rows if "eval/reward" in row), key=lambda row: row["eval/reward"])
    assert metrics["ppo/best_update"] == best["update"]
    assert [row["update"] for row in rows if "eval/reward" in row] == [0, 4]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(
        load_policy(tmp_path / "artifact" / "model")[0].state_dict().values(), policy.state_dict().values()))
    assert "forward" not in vars(policy), "trl patches the model it trains, and that is not ours"
    assert not [warning for warning in recwarn if "gradient_checkpointing" in str(warning.message)]


@each_algorithm
def test_rails_stop_it_too(tokenizer, tmp_path, algorithm):
    wild = override(GROUPS, learning_rate=0.05, kl_coef=0.0, max_kl=0.5, save_updates=1, min_distinct_share=0.0)
    with pytest.raises(NpkitError, match=rf"{algorithm} stopped at update \d: KL .* ppo\.kl_coef") as stop:
        train(tokenizer, tmp_path, algorithm, config=wild)
    stopped = int(re.search(r"update (\d)", str(stop.value))[1])
    assert (tmp_path / f"rejected-{steps_per_update(GROUPS) * (stopped - 1)}").is_dir()
    assert not (tmp_path / f"checkpoint-{steps_per_update(GROUPS) * stopped}").exists()


@each_algorithm
def test_a_toy_reward_is_learnt(tokenizer, tmp_path, algorithm):
    """GRPO takes twice as long: a reward this small, not divided by its spread, is near the price of KL in the loss."""
    num_updates = {"grpo": 28, "rloo": 14}[algorithm]
    config = override(GROUPS, num_updates=num_updates, episodes_per_update=32, minibatch_size=16, learning_rate=5e-3,
                      num_ppo_epochs=4, kl_coef=0.01, missing_eos_penalty=0.0, save_updates=100, max_kl=0.0)
    _, rows = train(tokenizer, tmp_path, algorithm, config=config)
    first, last = (sum(row["objective/score"] for row in part) / 4 for part in (rows[:4], rows[-4:]))
    assert last > first + 0.15, f"share of letters a: {first:.2f} -> {last:.2f}"


# 4. What differs from PPO, and what does not ------------------------------------------------------------------------
HOSTILE = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_p": 0.9, "num_beams": 3, "top_k": 2,
           "typical_p": 0.1, "bad_words_ids": [[5]], "forced_eos_token_id": 7, "suppress_tokens": [6, 8],
           "exponential_decay_length_penalty": (1, 9.0), "top_p": 0.2, "min_new_tokens": 5}


def built_trainer(tokenizer, folder, algorithm, policy=None, **changes):
    policy = policy or toy_policy(tokenizer)
    return group_trainer(policy, toy_policy(tokenizer), tokenizer, PREFIXES, share_of_a,
                         override(GROUPS, algorithm=algorithm, **changes), seed=3, folder=folder, callbacks=[])


def drawn_by(trainer) -> tuple[list[list[int]], torch.Tensor, torch.Tensor]:
    """Return what trl's trainer samples for a few prefixes, its log-probabilities of it, and those of the text."""
    torch.manual_seed(0)
    trainer.model.train()
    rows = [{"prompt": prefix} for prefix in ["a fox"] * 4 + ["a castle in the snow"] * 4]
    batch = trainer._generate_and_score_completions(rows)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, batch["completion_ids"].shape[1])
    acted = batch["completion_mask"].bool()
    texts = [ids[row][mask[row].bool()].tolist() for row in range(len(ids))]
    return texts, found[0], acted


@each_algorithm
@pytest.mark.parametrize("name", [None, *HOSTILE])
def test_the_settings_of_a_checkpoint_change_no_rollout(tokenizer, tmp_path, algorithm, name):
    clean = drawn_by(built_trainer(tokenizer, tmp_path / "clean", algorithm))
    policy = toy_policy(tokenizer)
    if name:
        setattr(policy.generation_config, name, HOSTILE[name])
    texts, logprobs, acted = drawn_by(built_trainer(tokenizer, tmp_path / "hostile", algorithm, policy))
    assert texts == clean[0]
    plain = toy_policy(tokenizer).eval()
    for text, row, keep in zip(texts, logprobs, acted):
        count = int(keep.sum())
        with torch.no_grad():
            logits = plain(tensor([text])).logits[:, -count - 1:-1]
        logits[..., tokenizer.pad_token_id] = -math.inf  # padding is no action
        expected = token_logprobs(logits, tensor([text])[:, -count:])[0]
        assert torch.allclose(row[keep], expected, atol=1e-5)


@each_algorithm
def test_padding_is_no_action(tokenizer, tmp_path, algorithm):
    policy = toy_policy(tokenizer)
    policy.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    policy.lm_head.bias.data[tokenizer.pad_token_id] = 9.0  # it would write little else
    texts, logprobs, acted = drawn_by(built_trainer(tokenizer, tmp_path, algorithm, policy))
    assert not any(tokenizer.pad_token_id in text for text in texts)
    assert logprobs[acted].mean() == pytest.approx(-math.log(len(tokenizer) - 1), abs=0.1)


@each_algorithm
def test_precision_is_the_profiles_and_each_ratio_has_its_own_clip(tokenizer, tmp_path, algorithm):
    own = override(GROUPS, algorithm=algorithm, cliprange=0.3, sequence_cliprange=0.7)
    settings = trainer_settings(own, 0, tmp_path, on_cpu=True)
    assert not settings.bf16 and not trainer_settings(own, 0, tmp_path, on_cpu=False).bf16
    assert settings.epsilon == {"grpo": 0.3, "rloo": 0.7}[algorithm]
    assert trainer_settings(override(GROUPS, algorithm=algorithm, precision="bfloat16"), 0, tmp_path, on_cpu=True).bf16
    assert settings.top_k == 0 and settings.top_p == 1.0 and settings.beta == GROUPS.kl_coef
    assert settings.max_grad_norm == GROUPS.max_grad_norm


def test_an_advantage_is_the_distance_from_the_group(tokenizer, tmp_path):
    """GRPO: from the mean of all, not divided by the spread; RLOO: from the mean of the others, KL paid (here 0)."""
    for algorithm, factor in (("grpo", 1.0), ("rloo", 4 / 3)):  # groups of four: x - mean of others = 4/3 (x - mean)
        trainer = built_trainer(tokenizer, tmp_path / algorithm, algorithm)
        torch.manual_seed(0)
        trainer.model.train()
        batch = trainer._generate_and_score_completions([{"prompt": "a fox"}] * 4)
        texts = tokenizer.batch_decode([row[keep.bool()] for row, keep in zip(batch["completion_ids"],
                                                                              batch["completion_mask"])])
        ended = [text.endswith(tokenizer.eos_token) for text in texts]
        texts = [text.removesuffix(tokenizer.eos_token) for text in texts]
        paid = tensor(share_of_a([], texts)) - 1.0 * ~tensor(ended)
        assert torch.allclose(batch["advantages"].flatten(), factor * (paid - paid.mean()), atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
@each_algorithm
def test_dropout_configured_as_a_number_is_off(tokenizer, tmp_path, algorithm, kind):
    torch.manual_seed(0)
    policy = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=48, attention_dropout=0.5, hidden_dropout=0.5,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    trainer = built_trainer(tokenizer, tmp_path, algorithm, policy)
    ids = tensor([[5, 6, 7, 8]])
    trainer.model.train()
    first, again = (trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 3)[0]
                    for _ in range(2))
    assert torch.equal(first, again) and trainer.model.training
