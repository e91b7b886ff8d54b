"""Rails: each kind of bad update stops a run before its checkpoint, and the best policy is kept without a trace."""
import copy
import math
import re

import pytest
import torch
from fixtures_toy import CONFIG, PREFIXES, Killed, killed_at, share_of_a, toy_policy, toy_tokenizer
from transformers import TrainerCallback

from npkit.errors import NpkitError
from npkit.study.profiles import load_profile, override
from npkit.text.policy import generate, generate_ids, load_policy
from npkit.training.rails import bad_rollout, bad_step, best_row, keep
from npkit.training.reinforcement import train_ppo, write_policy
from npkit.training.rollouts import read_samples

GOOD = {"update": 3, "policy/loss": 0.1, "value/loss": 0.2, "objective/score": 1.0, "objective/kl": 4.0,
        "objective/distinct_share": 1.0}
HELDOUT = ["a cat in the snow", "a castle", "a fox", "snow", "a cat", "the fox", "in the castle"]
EVALUATED = override(CONFIG, eval_updates=1, num_updates=6, learning_rate=3e-2, max_kl=0.0, min_distinct_share=0.0)


@pytest.fixture(scope="module")
def tokenizer():
    return toy_tokenizer()


def train(tokenizer, folder, *, config=CONFIG, reward=share_of_a, **arguments):
    """Train a fresh toy policy; return it with its rows."""
    policy = toy_policy(tokenizer)
    rows = train_ppo(policy, copy.deepcopy(policy), tokenizer, PREFIXES, reward, config, seed=3, folder=folder,
                     max_prompt_tokens=48, **arguments)
    return policy, rows


def same_weights(ours, theirs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


# 1. What stops a run -------------------------------------------------------------------------------------------------
def test_a_good_update_is_no_trouble(tokenizer):
    assert bad_rollout(GOOD, CONFIG) == bad_step(GOOD, toy_policy(tokenizer), CONFIG) == ""
    assert bad_rollout(GOOD | {"objective/kl": 5000.0}, override(CONFIG, max_kl=0.0)) == ""
    assert bad_rollout(GOOD | {"objective/distinct_share": 0.0}, override(CONFIG, min_distinct_share=0.0)) == ""


@pytest.mark.parametrize(("bad", "words"), [
    ({"objective/kl": 100.1}, ["100.1 nats", "ppo.max_kl = 100", "higher ppo.kl_coef (now 0.05)", "num_ppo_epochs"]),
    ({"objective/distinct_share": 0.03}, ["collapsed, 3.0%", "ppo.min_distinct_share = 5.0%", "ppo.kl_coef"]),
    ({"objective/kl": math.inf}, ["KL inf", "lower ppo.learning_rate (now 0.001)"]),
    ({"objective/score": math.nan}, ["score nan"])])
def test_a_bad_rollout_says_what_to_try(bad, words):
    assert all(word in bad_rollout(GOOD | bad, CONFIG) for word in words)


def test_a_bad_step_is_named(tokenizer):
    policy = toy_policy(tokenizer)
    assert "policy/loss is nan; try a lower ppo.learning_rate" in bad_step(GOOD | {"policy/loss": math.nan}, policy,
                                                                           CONFIG)
    assert "value/loss is inf" in bad_step(GOOD | {"value/loss": math.inf}, policy, CONFIG)
    without_critic = {name: value for name, value in GOOD.items() if name != "value/loss"}
    assert bad_step(without_critic, policy, CONFIG) == ""
    with torch.no_grad():
        policy.transformer.wpe.weight[7, 3] = math.nan
    assert "weights of transformer.wpe.weight are not finite" in bad_step(GOOD, policy, CONFIG)


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_rails_and_evaluation_are_on_in_every_profile(name):
    ppo = load_profile(name).ppo
    assert ppo.max_kl > 0
    assert ppo.min_distinct_share > 0
    assert ppo.eval_updates > 0
    assert (ppo.algorithm, ppo.final_policy) == ("ppo", "last")


def test_a_blow_up_leaves_a_good_checkpoint_and_a_better_setting_goes_on_from_it(tokenizer, tmp_path):
    wild = override(CONFIG, num_updates=8, learning_rate=4e-3, kl_coef=0.0, max_kl=0.3, save_updates=1)
    with pytest.raises(NpkitError, match=r"ppo stopped at update \d: KL to the SFT policy .* ppo\.kl_coef") as stop:
        train(tokenizer, tmp_path, config=wild)
    stopped = int(re.search(r"update (\d)", str(stop.value))[1])
    assert (tmp_path / f"rejected-{stopped - 1}").is_dir(), "the policy whose rollout was too far from SFT"
    assert f"checkpoint-{stopped - 2}" in str(stop.value), "the test needs a good policy before the bad one"
    _, rows = train(tokenizer, tmp_path, config=override(wild, learning_rate=1e-5, kl_coef=0.1))
    assert [row["update"] for row in rows] == list(range(1, 9))
    assert max(row["objective/kl"] for row in rows) <= 0.3


def test_a_resumed_run_takes_its_own_learning_rate(tokenizer, tmp_path):
    class Rates(TrainerCallback):
        def __init__(self):
            self.seen = []

        def on_step_end(self, args, state, control, optimizer, **others):
            self.seen.append(optimizer.param_groups[0]["lr"])

    rates = Rates()
    with pytest.raises(Killed):
        train(tokenizer, tmp_path, reward=killed_at(4), callbacks=[rates])
    train(tokenizer, tmp_path, config=override(CONFIG, learning_rate=2e-5), callbacks=[rates])
    assert rates.seen == [1e-3] * 3 + [2e-5] * 2


def test_a_resumed_run_takes_its_own_learning_rate_of_the_critic(tokenizer, tmp_path):
    class Rates(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer, **others):
            seen.append({group["name"]: group["lr"] for group in optimizer.param_groups})

    seen = []
    with pytest.raises(Killed):
        train(tokenizer, tmp_path, reward=killed_at(4), config=override(CONFIG, vf_learning_rate=5e-3),
              callbacks=[Rates()])
    train(tokenizer, tmp_path, config=override(CONFIG, vf_learning_rate=2e-3), callbacks=[Rates()])
    assert seen == [{"policy": 1e-3, "critic": 5e-3}] * 3 + [{"policy": 1e-3, "critic": 2e-3}] * 2


def test_a_collapsed_rollout_stops_the_run(tokenizer, tmp_path):
    greedy = override(CONFIG, temperature=1e-4, min_distinct_share=0.9)
    with pytest.raises(NpkitError, match="at update 1: the policy has collapsed.*no good checkpoint"):
        train(tokenizer, tmp_path, config=greedy)


def test_an_infinite_step_stops_the_run(tokenizer, tmp_path):
    with pytest.raises(NpkitError, match=r"stopped at update 1: .* (nan|finite); try a lower ppo\.learning_rate"):
        train(tokenizer, tmp_path, config=override(CONFIG, learning_rate=1e30, max_kl=0.0, min_distinct_share=0.0))
    assert not list(tmp_path.glob("checkpoint-*"))


# 2. The best policy --------------------------------------------------------------------------------------------------
def test_evaluation_does_not_change_the_training(tokenizer, tmp_path):
    quiet, expected = train(tokenizer, tmp_path / "quiet")
    watched, rows = train(tokenizer, tmp_path / "watched", config=override(CONFIG, eval_updates=1), heldout=HELDOUT)
    assert same_weights(quiet, watched)
    assert rows[0].keys() == {"update", "episodes", "step", "eval/score", "eval/reward"}
    assert [{name: value for name, value in row.items() if "eval/" not in name} for row in rows[1:]] == expected
    assert read_samples(tmp_path / "quiet").equals(read_samples(tmp_path / "watched"))


def test_the_best_policy_is_kept_and_scores_what_its_row_says(tokenizer, tmp_path):
    _, rows = train(tokenizer, tmp_path / "run", config=EVALUATED, heldout=HELDOUT)
    best = best_row(rows)
    assert best["eval/reward"] == max(row["eval/reward"] for row in rows)
    assert len({row["eval/reward"] for row in rows}) > 1, "the test needs policies that differ"
    (folder,) = (tmp_path / "run").glob("best-*")
    assert folder.name == f"best-{best['update']:06d}"
    policy, _ = load_policy(folder)
    texts = generate(policy, tokenizer, HELDOUT, max_new_tokens=6, generator_seed=3)
    assert sum(share_of_a(HELDOUT, texts)) / len(HELDOUT) == pytest.approx(best["eval/score"], abs=1e-6)


def test_evaluation_follows_its_own_clock_and_the_last_update(tokenizer, tmp_path):
    _, rows = train(tokenizer, tmp_path, config=override(CONFIG, eval_updates=3), heldout=HELDOUT)
    assert [row["update"] for row in rows if "eval/reward" in row] == [0, 3, 4]
    _, rows = train(tokenizer, tmp_path / "off", config=override(CONFIG, eval_updates=0), heldout=HELDOUT)
    assert best_row(rows) is None


def test_a_killed_run_keeps_the_same_best_policy(tokenizer, tmp_path):
    train(tokenizer, tmp_path / "whole", config=EVALUATED, heldout=HELDOUT)
    with pytest.raises(Killed):
        train(tokenizer, tmp_path / "broken", config=EVALUATED, heldout=HELDOUT, reward=killed_at(9))
    train(tokenizer, tmp_path / "broken", config=EVALUATED, heldout=HELDOUT)
    (whole,), (broken,) = ((tmp_path / name).glob("best-*") for name in ("whole", "broken"))
    assert whole.name == broken.name
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()


def scores_that_peak_at(evaluation: int):
    """Return a reward of held-out prefixes that is highest at one evaluation, whatever is written."""
    calls = []

    def reward(prefixes, completions):
        calls.append(1)
        return [-100 * abs(len(calls) - evaluation)] * len(prefixes)

    return reward


def test_the_final_policy_is_the_last_one_unless_the_setting_says_best(tokenizer, tmp_path):
    last, _ = train(tokenizer, tmp_path / "last", config=EVALUATED, heldout=HELDOUT,
                    heldout_reward=scores_that_peak_at(2))
    best, rows = train(tokenizer, tmp_path / "best", config=override(EVALUATED, final_policy="best"), heldout=HELDOUT,
                       heldout_reward=scores_that_peak_at(2))
    assert best_row(rows)["update"] == 1
    assert not same_weights(last, best)
    assert same_weights(best, load_policy(tmp_path / "best" / "best-000001")[0])


def test_the_policy_that_training_began_with_is_a_candidate(tokenizer, tmp_path):
    best, rows = train(tokenizer, tmp_path, config=override(EVALUATED, final_policy="best"), heldout=HELDOUT,
                       heldout_reward=scores_that_peak_at(1))
    assert best_row(rows)["update"] == 0
    assert same_weights(best, toy_policy(tokenizer))
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-000000"]


def test_the_best_is_chosen_by_the_penalised_score(tokenizer, tmp_path):
    """Score less penalty less `kl_coef` x KL, recomputed from the kept policy; at update 0 there is no KL."""
    config = override(EVALUATED, kl_coef=0.3, missing_eos_penalty=0.7)
    _, rows = train(tokenizer, tmp_path, config=config, heldout=HELDOUT)
    best = best_row(rows)
    (policy, _), reference = load_policy(tmp_path / f"best-{best['update']:06d}"), toy_policy(tokenizer)
    prefix_ids = tokenizer(HELDOUT)["input_ids"]
    ids = generate_ids(policy, tokenizer, HELDOUT, max_new_tokens=6, generator_seed=3)
    paid = []
    for prefix, written in zip(prefix_ids, ids):
        finished = written[-1] == tokenizer.eos_token_id
        chosen = written[:-1] if finished else written
        gains = [text_logprob(model, prefix, written, tokenizer.pad_token_id) for model in (policy, reference)]
        [judged] = share_of_a([""], [tokenizer.decode(chosen)])
        paid.append(judged - 0.7 * (not finished) - 0.3 * (gains[0] - gains[1]))
    assert sum(paid) / len(paid) == pytest.approx(best["eval/reward"], abs=1e-4)
    without_penalties = [row for row in rows if row["eval/score"] == row["eval/reward"]]
    assert not without_penalties, "the test needs penalties"


def text_logprob(model, prefix: list[int], written: list[int], pad_token_id: int) -> float:
    """Return the log-probability of tokens after a prefix, padding being impossible."""
    with torch.no_grad():
        logits = model.eval()(torch.tensor([prefix + written])).logits[0, len(prefix) - 1:-1]
    logits[:, pad_token_id] = -math.inf
    return logits.log_softmax(-1)[range(len(written)), written].sum().item()


def test_best_without_held_out_prefixes_is_refused(tokenizer, tmp_path):
    with pytest.raises(NpkitError, match="no held-out prefixes"):
        train(tokenizer, tmp_path, config=override(CONFIG, final_policy="best"))


def test_the_artifact_names_the_best_policy(tokenizer, tmp_path):
    policy, rows = train(tokenizer, tmp_path / "run", config=EVALUATED, heldout=HELDOUT)
    metrics = write_policy(tmp_path / "artifact", policy, tokenizer, rows, read_samples(tmp_path / "run"),
                           tmp_path / "run")
    best = best_row(rows)
    assert (metrics["ppo/best_update"], metrics["ppo/best_reward"]) == (best["update"], best["eval/reward"])
    assert metrics["eval/reward"] == rows[-1]["eval/reward"]
    kept = tmp_path / "run" / f"best-{best['update']:06d}"
    assert same_weights(load_policy(tmp_path / "artifact" / "best")[0], load_policy(kept)[0])
    assert same_weights(load_policy(tmp_path / "artifact" / "model")[0], policy)


def test_a_policy_is_kept_whole_or_not_at_all(tokenizer, tmp_path, monkeypatch):
    policy, folder = toy_policy(tokenizer), tmp_path / "best-000002"

    def half(model, tokenizer, draft):
        draft.mkdir()
        (draft / "config.json").write_text("{")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("npkit.training.rails.save_policy", half)
        keep(policy, tokenizer, folder)
    assert not folder.exists()
    keep(policy, tokenizer, folder)
    keep(policy, tokenizer, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["best-000002"]
    assert same_weights(load_policy(folder)[0], policy)
