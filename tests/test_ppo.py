"""PPO: worked numbers for the arithmetic, the traps of rollouts, exact resume, and a toy reward that is learnt."""
import copy
import math
from pathlib import Path

import pytest
import torch
from fixtures_toy import CONFIG, PREFIXES, Killed, killed_at, share_of_a, toy_policy, toy_tokenizer
from torch import tensor
from transformers import GPT2LMHeadModel

from npkit.errors import NpkitError, PrefixTooLong
from npkit.study.profiles import PPOConfig, load_profile, override
from npkit.text.policy import load_policy, sequence_logprobs
from npkit.training.ppo import ActorCritic, parameter_groups, update
from npkit.training.ppo_math import (
    action_logits,
    clip_fraction,
    estimate_advantages,
    explained_variance,
    kl_estimate,
    policy_loss,
    token_entropies,
    token_logprobs,
    token_rewards,
    value_loss,
    whiten,
)
from npkit.training.reinforcement import train_ppo, write_policy
from npkit.training.rollouts import Rollout, read_samples, roll_out, score

ALL = tensor([[True, True, True]])


@pytest.fixture(scope="module")
def tokenizer():
    return toy_tokenizer()


@pytest.fixture
def policy(tokenizer) -> GPT2LMHeadModel:
    return toy_policy(tokenizer)


@pytest.fixture
def uniform(policy) -> GPT2LMHeadModel:
    """A policy for which every token is as likely as any other: all its numbers can be told by hand."""
    torch.nn.init.zeros_(policy.transformer.wte.weight)  # tied to the output layer
    return policy


# 1. Arithmetic, by hand ----------------------------------------------------------------------------------------------
def test_token_logprobs_and_entropies():
    logits = tensor([[[0.0, math.log(3.0)], [5.0, 5.0]]])
    assert token_logprobs(logits, tensor([[1, 0]])).tolist() == [pytest.approx([math.log(0.75), math.log(0.5)])]
    expected = [-0.75 * math.log(0.75) - 0.25 * math.log(0.25), math.log(2)]
    assert token_entropies(logits).tolist() == [pytest.approx(expected)]


def test_kl_estimates():
    logprobs, ref_logprobs = tensor([math.log(0.5), math.log(0.1)]), tensor([math.log(0.25), math.log(0.2)])
    assert kl_estimate(logprobs, ref_logprobs).tolist() == pytest.approx([math.log(2), -math.log(2)])
    expected = [0.5 - 1 + math.log(2), 2 - 1 - math.log(2)]
    assert kl_estimate(logprobs, ref_logprobs, "k3").tolist() == pytest.approx(expected)
    with pytest.raises(NpkitError, match="k1 or k3"):
        kl_estimate(logprobs, ref_logprobs, "k2")


def test_both_kl_estimates_are_unbiased():
    policy, reference = tensor([0.7, 0.2, 0.1]), tensor([0.2, 0.5, 0.3])
    kl = (policy * (policy / reference).log()).sum()
    for estimator in ("k1", "k3"):
        assert (policy * kl_estimate(policy.log(), reference.log(), estimator)).sum().isclose(kl)


def test_token_rewards():
    mask = tensor([[False, True, True, False], [True, True, True, True]])
    logprobs, ref_logprobs = torch.full((2, 4), -1.0), torch.full((2, 4), -3.0)
    rewards = token_rewards(tensor([5.0, 7.0]), logprobs, ref_logprobs, mask, kl_coef=0.1)
    assert torch.allclose(rewards, tensor([[0, -0.2, 4.8, 0], [-0.2, -0.2, -0.2, 6.8]]))


def test_advantages_by_hand():
    rewards, values = tensor([[0.0, 0.0, 1.0]]), tensor([[0.5, 0.4, 0.6]])
    advantages, returns = estimate_advantages(rewards, values, ALL, gamma=1.0, lam=0.5)
    # deltas -0.1, 0.2, 0.4; advantages 0.4, 0.2 + 0.5 * 0.4, -0.1 + 0.5 * 0.4
    assert torch.allclose(advantages, tensor([[0.1, 0.4, 0.4]]))
    assert torch.allclose(returns, tensor([[0.6, 0.8, 1.0]]))


def test_advantages_with_lam_1_are_returns_minus_values():
    rewards, values = tensor([[1.0, 2.0, 3.0]]), tensor([[0.3, -0.2, 0.9]])
    advantages, returns = estimate_advantages(rewards, values, ALL, gamma=0.5, lam=1.0)
    assert torch.allclose(returns, tensor([[2.75, 3.5, 3.0]])) and torch.allclose(advantages, returns - values)


def test_nothing_after_the_last_action_counts():
    mask = tensor([[True, True, False]])
    advantages, returns = estimate_advantages(tensor([[0.0, 1.0, 0.0]]), tensor([[0.5, 0.5, 99.0]]), mask, 1.0, 1.0)
    assert advantages.tolist() == [[0.5, 0.5, 0.0]] and returns.tolist() == [[1.0, 1.0, 0.0]]


def test_whiten():
    mask = tensor([[True, True, False]])
    assert torch.allclose(whiten(tensor([[1.0, 3.0, 100.0]]), mask), tensor([[-1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("ratio, advantage, loss, clipped", [
    (1.5, 1.0, -1.2, 1), (1.1, 1.0, -1.1, 0), (0.5, 1.0, -0.5, 1), (1.5, -1.0, 1.5, 1), (0.5, -1.0, 0.8, 1)])
def test_policy_loss_clips_what_would_go_too_far(ratio, advantage, loss, clipped):
    mask, new, old = tensor([[True, False]]), tensor([[math.log(ratio), 90.0]]), tensor([[0.0, -90.0]])
    got = policy_loss(new, old, tensor([[advantage, 1.0]]), mask, cliprange=0.2)
    assert float(got) == pytest.approx(loss)
    assert float(clip_fraction(new, old, mask, 0.2)) == clipped


def test_value_loss_takes_the_larger_error():
    values, old_values, returns = tensor([[1.0, 0.0]]), tensor([[0.5, 0.0]]), tensor([[1.0, 2.0]])
    # first: value 1.0 is right, clipped 0.7 is 0.3 off; second: both 2 off
    got = value_loss(values, old_values, returns, tensor([[True, True]]), cliprange_value=0.2)
    assert float(got) == pytest.approx((0.09 + 4) / 2 / 2)


def test_explained_variance():
    returns = tensor([[1.0, 2.0, 3.0]])
    assert float(explained_variance(returns + 5, returns, ALL)) == pytest.approx(1)
    assert float(explained_variance(torch.zeros(1, 3), returns, ALL)) == pytest.approx(0)
    assert float(explained_variance(-returns, returns, ALL)) == pytest.approx(-3)


# 2. Rollouts ---------------------------------------------------------------------------------------------------------
def test_rollout_of_a_uniform_policy(uniform, tokenizer):
    torch.manual_seed(0)
    rollout = roll_out(ActorCritic(uniform), copy.deepcopy(uniform), tokenizer, PREFIXES[:8], CONFIG)
    surprise = math.log(len(tokenizer) - 1)  # padding is no action
    assert torch.allclose(rollout.logprobs, -surprise * rollout.mask)
    assert torch.allclose(rollout.entropies, surprise * rollout.mask)
    assert rollout.values.abs().max() == 0, "the value head starts at zero"
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs)
    assert rollout.input_ids.shape == rollout.mask.shape == rollout.values.shape


def test_mask_covers_the_completion_and_its_eos(policy, tokenizer):
    torch.manual_seed(1)
    with torch.no_grad():
        policy.transformer.ln_f.bias += 3 * policy.transformer.wte.weight[tokenizer.eos_token_id] / \
            policy.transformer.wte.weight[tokenizer.eos_token_id].norm() ** 2
    rollout = roll_out(ActorCritic(policy), policy, tokenizer, PREFIXES, CONFIG)
    assert 0 < rollout.finished.float().mean() < 1, "the test needs both kinds"
    for row, (prefix, completion) in enumerate(zip(rollout.prefixes, rollout.completions, strict=True)):
        actions = rollout.input_ids[row][rollout.mask[row]]
        assert tokenizer.decode(actions, skip_special_tokens=True) == completion
        assert bool(rollout.finished[row]) == (int(actions[-1]) == tokenizer.eos_token_id)
        assert bool(rollout.finished[row]) or len(actions) == CONFIG.max_new_tokens
        before = rollout.input_ids[row][: int(rollout.mask[row].int().argmax())]
        assert tokenizer.decode(before) == prefix


def test_sampling_and_training_agree_on_logprobs(policy, tokenizer):
    """Left padding shifts positions while sampling; where nobody corrects for that, log-probabilities are far off."""
    ids = tokenizer(PREFIXES[:4], return_tensors="pt", padding=True, padding_side="left")
    model = ActorCritic(policy)
    torch.manual_seed(0)
    out = policy.eval().generate(**ids, do_sample=True, top_k=0, max_new_tokens=6, return_dict_in_generate=True,
                                 output_logits=True)
    torch.manual_seed(0)
    rollout = roll_out(model, policy, tokenizer, PREFIXES[:4], CONFIG)
    sampled = out.sequences[:, ids.input_ids.shape[1]:]
    logprobs = token_logprobs(action_logits(torch.stack(out.logits, 1), tokenizer.pad_token_id), sampled)
    for row in range(4):
        actions = rollout.mask[row]
        assert torch.equal(rollout.input_ids[row][actions], sampled[row][: int(actions.sum())])
        assert torch.allclose(rollout.logprobs[row][actions], logprobs[row][: int(actions.sum())], atol=1e-5)


def test_logprobs_are_those_of_the_text(policy, tokenizer):
    """Those of completion and EOS as text, and what padding, which is no action, leaves of every probability."""
    policy.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    policy.lm_head.bias.data[[tokenizer.eos_token_id, *range(5, 30)]] = 4.0  # ends soon, in single letters
    torch.manual_seed(0)
    rollout = roll_out(ActorCritic(policy), policy, tokenizer, PREFIXES, CONFIG)
    compared = 0
    for row in range(len(PREFIXES)):
        prefix, completion = rollout.prefixes[row], rollout.completions[row]
        actions = rollout.input_ids[row][rollout.mask[row]].tolist()
        if actions == [*tokenizer(completion).input_ids, tokenizer.eos_token_id]:
            compared += 1
            [expected] = sequence_logprobs(policy, tokenizer, [prefix], [completion])
            ids = tensor([tokenizer(prefix).input_ids + actions])
            with torch.no_grad():
                padding = policy(ids).logits.softmax(-1)[0, -len(actions) - 1:-1, tokenizer.pad_token_id]
            expected -= float((1 - padding).log().sum())
            assert float(rollout.logprobs[row].sum()) == pytest.approx(expected, abs=1e-4)
    assert compared >= 8, "the test needs completions whose text gives the same tokens again"


def test_padding_is_no_action(policy, tokenizer):
    """A policy that would write little else never does, and no probability is left for it."""
    policy.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    policy.lm_head.bias.data[tokenizer.pad_token_id] = 9.0
    model, reference = ActorCritic(policy), copy.deepcopy(policy)
    reference.lm_head.bias.data[tokenizer.pad_token_id] = -9.0  # without padding, the same policy
    torch.manual_seed(0)
    rollout = roll_out(model, reference, tokenizer, PREFIXES[:8], CONFIG)
    assert not (rollout.input_ids[rollout.mask] == tokenizer.pad_token_id).any()
    assert torch.allclose(rollout.logprobs, rollout.ref_logprobs, atol=1e-5)
    assert rollout.entropies[rollout.mask].min() > 0.9 * math.log(len(tokenizer) - 1), "the untrained rest is even"
    again, _ = model(rollout.input_ids, rollout.attention_mask)
    assert torch.allclose(again.softmax(-1).sum(-1), torch.ones(1)) and not again.softmax(-1)[
        ..., tokenizer.pad_token_id].any()


def test_select_changes_no_number(policy, tokenizer):
    torch.manual_seed(0)
    rollout = roll_out(ActorCritic(policy), policy, tokenizer, PREFIXES[:4], CONFIG)
    part = rollout.select(tensor([2, 0]))
    assert part.prefixes == [PREFIXES[2], PREFIXES[0]] and part.completions[1] == rollout.completions[0]
    assert part.logprobs.sum().isclose(rollout.logprobs[[2, 0]].sum()) and int(part.mask.sum()) == int(
        rollout.mask[[2, 0]].sum())


def test_dropout_is_off(policy):
    model = ActorCritic(policy.train()).train()
    ids = tensor([[5, 6, 7]])
    assert policy.config.resid_pdrop > 0 and torch.equal(policy(ids).logits, policy(ids).logits)
    assert torch.equal(model(ids, torch.ones_like(ids))[1], model(ids, torch.ones_like(ids))[1])


@pytest.mark.parametrize("vf_coef", [0.0, 5.0, 5000.0])
def test_the_step_of_the_policy_does_not_depend_on_the_critic(policy, tokenizer, vf_coef):
    """Each has a clip of its own: under one for both, a large value loss shortens every step of the policy."""
    def stepped(config):
        torch.manual_seed(0)
        model = ActorCritic(copy.deepcopy(policy))
        optimizer = torch.optim.SGD(parameter_groups(model, config))
        rollout = roll_out(model, policy, tokenizer, PREFIXES[:8], config)
        update(model, optimizer, rollout, 3 * rollout.mask, 50.0 * rollout.mask, config=config)
        return model

    calm = override(CONFIG, learning_rate=1e-2, max_grad_norm=0.5)
    ours, theirs = stepped(override(calm, vf_coef=vf_coef)), stepped(calm)
    assert all(torch.equal(a, b) for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True))
    assert not torch.equal(theirs.policy.lm_head.weight, policy.lm_head.weight)
    faster = stepped(override(calm, vf_learning_rate=2e-2))
    moved = [(model.value_head.bias - 0).abs().item() for model in (faster, theirs)]
    assert moved[0] > 1.5 * moved[1] > 0
    assert torch.equal(faster.policy.lm_head.weight, theirs.policy.lm_head.weight)


def test_both_gradients_are_clipped(policy, tokenizer):
    """Plain gradient steps of rate 1 are no longer than their clips, each on its own side."""
    config = override(CONFIG, learning_rate=1.0, max_grad_norm=0.01, vf_max_grad_norm=0.02, num_ppo_epochs=1,
                      minibatch_size=8)
    model = ActorCritic(copy.deepcopy(policy))
    before = copy.deepcopy(model)
    rollout = roll_out(model, policy, tokenizer, PREFIXES[:8], config)
    update(model, torch.optim.SGD(parameter_groups(model, config)), rollout, 30.0 * rollout.mask, 50.0 * rollout.mask,
           config=config)

    def distance(ours, theirs):
        return sum(((a - b) ** 2).sum() for a, b in zip(ours, theirs, strict=True)).sqrt().item()

    assert distance(model.policy.parameters(), before.policy.parameters()) == pytest.approx(0.01, rel=1e-2)
    assert distance(model.critic_parameters(), before.critic_parameters()) == pytest.approx(0.02, rel=1e-2)


def test_the_first_step_moves_along_the_advantage(policy, tokenizer):
    """Before any step the ratio is 1: the gradient raises what was better than expected and lowers the rest."""
    torch.manual_seed(0)
    model = ActorCritic(policy)
    rollout = roll_out(model, copy.deepcopy(policy), tokenizer, PREFIXES[:8], CONFIG)
    advantages = torch.where(torch.arange(8)[:, None] < 4, 1.0, -1.0) * rollout.mask
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = update(model, optimizer, rollout, advantages, advantages, config=CONFIG)
    after = roll_logprobs(model, rollout)
    assert after[:4].sum() > rollout.logprobs[:4].sum() and after[4:].sum() < rollout.logprobs[4:].sum()
    assert set(losses) == {"policy/loss", "policy/clipfrac", "policy/approx_kl", "value/loss"}


def roll_logprobs(model: ActorCritic, rollout: Rollout) -> torch.Tensor:
    with torch.no_grad():
        logits, _ = model(rollout.input_ids, rollout.attention_mask)
    return token_logprobs(logits, rollout.input_ids[:, 1:]) * rollout.mask[:, 1:]


# 3. Bad rewards and bad prefixes -------------------------------------------------------------------------------------
@pytest.mark.parametrize("reward, words", [
    (lambda prefixes, completions: [math.nan] * len(prefixes), "finite numbers: nan for the prompt 'a fox"),
    (lambda prefixes, completions: [1.0], "one number per completion: 8 completions"),
    (lambda prefixes, completions: [[1.0]] * len(prefixes), "one number per completion"),
    (lambda prefixes, completions: 1 / 0, "failed on 8 completions, ZeroDivisionError"),
    (lambda prefixes, completions: ["good"] * len(prefixes), "failed on 8 completions")])
def test_a_bad_reward_is_named(policy, tokenizer, reward, words):
    rollout = roll_out(ActorCritic(policy), policy, tokenizer, ["a fox"] * 8, CONFIG)
    with pytest.raises(NpkitError, match=words):
        score(rollout, reward)


def test_padding_that_is_eos_is_refused(policy, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(NpkitError, match="no pad token of its own"):
        train(policy, tokenizer, tmp_path)


def test_prefixes_are_checked_before_training(policy, tokenizer, tmp_path):
    with pytest.raises(NpkitError, match="episodes_per_update = 8, got 2"):
        train(policy, tokenizer, tmp_path, prefixes=PREFIXES[:2])
    with pytest.raises(PrefixTooLong):
        train(policy, tokenizer, tmp_path, prefixes=["a fox " * 30] * 8)
    assert not list(tmp_path.iterdir())


# 4. Training ---------------------------------------------------------------------------------------------------------
def train(policy, tokenizer, folder, *, prefixes=PREFIXES, reward=share_of_a, config=CONFIG, **arguments):
    return train_ppo(policy, copy.deepcopy(policy), tokenizer, prefixes, reward, config, seed=3, folder=folder,
                     max_prompt_tokens=48, **arguments)


def test_a_killed_run_ends_as_if_it_was_not(policy, tokenizer, tmp_path):
    whole, broken, reference = policy, copy.deepcopy(policy), copy.deepcopy(policy)
    expected = train(whole, tokenizer, tmp_path / "whole")
    arguments = {"seed": 3, "folder": tmp_path / "broken", "max_prompt_tokens": 48}
    with pytest.raises(Killed):
        train_ppo(broken, copy.deepcopy(reference), tokenizer, PREFIXES, killed_at(4), CONFIG, **arguments)
    half = tmp_path / "broken" / "checkpoint-9"
    half.mkdir()
    (half / "trainer_state.json").write_text('{"global_st')
    torch.rand(17)
    resumed = copy.deepcopy(reference)
    rows = train_ppo(resumed, reference, tokenizer, PREFIXES, share_of_a, CONFIG, **arguments)
    assert rows == expected
    assert all(torch.equal(ours, theirs) for ours, theirs in
               zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True))
    assert read_samples(tmp_path / "broken").equals(read_samples(tmp_path / "whole"))


def test_a_finished_run_is_not_run_again(policy, tokenizer, tmp_path):
    start = copy.deepcopy(policy)
    expected = train(policy, tokenizer, tmp_path)
    rows = train(start, tokenizer, tmp_path, reward=killed_at(1))
    assert rows == expected
    assert torch.equal(start.transformer.wte.weight, policy.transformer.wte.weight)


def test_metrics_and_artifact(policy, tokenizer, tmp_path):
    rows = train(policy, tokenizer, tmp_path)
    assert [row["update"] for row in rows] == [1, 2, 3, 4] and rows[-1]["episodes"] == 32
    names = {"objective/score", "objective/kl", "objective/reward", "policy/clipfrac", "policy/entropy", "policy/loss",
             "value/loss", "value/explained_variance"}
    assert names <= set(rows[0]) and all(math.isfinite(row[name]) for row in rows for name in names)
    assert rows[0]["objective/kl"] == 0 and rows[-1]["objective/kl"] != 0
    metrics = write_policy(tmp_path / "artifact", policy, tokenizer, rows, read_samples(tmp_path))
    assert metrics["objective/score"] == rows[-1]["objective/score"] and metrics["episodes"] == 32
    assert len((tmp_path / "artifact" / "metrics.jsonl").read_text().splitlines()) == 4
    loaded, _ = load_policy(tmp_path / "artifact" / "model")
    assert type(loaded) is GPT2LMHeadModel
    ids = tensor([[5, 6, 7]])
    assert torch.allclose(loaded(ids).logits, policy(ids).logits, atol=1e-5)  # the same GELU by another kernel


def test_checkpoints_are_plain_policies(policy, tokenizer, tmp_path):
    train(policy, tokenizer, tmp_path)
    loaded, again = load_policy(tmp_path / "checkpoint-4")
    assert type(loaded) is GPT2LMHeadModel and again.get_vocab() == tokenizer.get_vocab()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_a_toy_reward_is_learnt(policy, tokenizer, tmp_path):
    config = PPOConfig(num_updates=14, episodes_per_update=32, minibatch_size=16, max_new_tokens=6, learning_rate=5e-3,
                       kl_coef=0.01, missing_eos_penalty=0.0, save_updates=100)
    rows = train(policy, tokenizer, Path(tmp_path), config=config)
    first, last = (sum(row["objective/score"] for row in part) / 4 for part in (rows[:4], rows[-4:]))
    assert last > first + 0.15, f"share of letters a: {first:.2f} -> {last:.2f}"
    assert rows[-1]["policy/entropy"] < rows[0]["policy/entropy"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sampling_reference_and_learning_share_a_precision(policy, tokenizer, tmp_path, precision):
    dtypes = set()
    policy.transformer.h[0].mlp.c_fc.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    rows = train(policy, tokenizer, tmp_path, config=override(CONFIG, precision=precision, num_updates=1))
    assert dtypes == {getattr(torch, precision)}
    assert rows[0]["objective/kl"] == 0, "policy and reference are the same yet"
    assert policy.transformer.wte.weight.dtype == torch.float32


def test_an_unknown_precision_is_refused():
    for section in ("sft", "ppo"):
        with pytest.raises(NpkitError, match=f"{section}.precision is one of float32, bfloat16, got 'fp8'"):
            load_profile("tiny", {f"{section}.precision": "fp8"})


# 5. A checkpoint's own settings --------------------------------------------------------------------------------------
HOSTILE = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_p": 0.9, "num_beams": 3, "top_k": 2,
           "typical_p": 0.1, "bad_words_ids": [[5]], "forced_eos_token_id": 7,
           "exponential_decay_length_penalty": (1, 9.0), "suppress_tokens": [6, 8], "top_p": 0.2, "min_new_tokens": 5}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_settings_of_a_checkpoint_change_no_rollout(policy, tokenizer, name):
    plain = copy.deepcopy(policy).eval()
    torch.manual_seed(0)
    expected = roll_out(ActorCritic(policy), plain, tokenizer, PREFIXES[:8], CONFIG)
    setattr(policy.generation_config, name, HOSTILE[name])
    torch.manual_seed(0)
    rollout = roll_out(ActorCritic(policy), plain, tokenizer, PREFIXES[:8], CONFIG)
    assert torch.equal(rollout.input_ids, expected.input_ids)
    for row, keep in enumerate(rollout.mask):
        ids = rollout.input_ids[row][rollout.attention_mask[row]]
        with torch.no_grad():
            logits = plain(ids[None]).logits[:, :-1]
        logits[..., tokenizer.pad_token_id] = -math.inf
        logprobs = token_logprobs(logits, ids[None, 1:])[0][-int(keep.sum()):]
        assert torch.allclose(rollout.logprobs[row][keep], logprobs, atol=1e-5)
