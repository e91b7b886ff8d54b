"""PPO against a naive loop: `python benchmarks/training.py ppo`.

Updates of the tiny profile, whose reward is painted and judged in batches and remembered, against a naive loop
that paints prefix and prompt one by one, judges them from PIL pictures and remembers nothing. Both sample and optimise
with the same code, in turn in one process; processor time is measured, medians over the rounds. The policy is
untrained: its completions are as long as they may be and never the same twice, so that only prefixes are remembered.
"""
import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable
from statistics import median

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.scoring.cache import ScoreCache
from npkit.scoring.images import ImageModel, load_image_model, quiet_transformers
from npkit.scoring.judges import features, load_judge
from npkit.scoring.rewards import Scorer, gain_over_prefix
from npkit.study.profiles import JudgeConfig, PPOConfig, load_profile, override, resolve
from npkit.text.corpus import prepare
from npkit.text.policy import Policy, build_policy
from npkit.training.ppo import ActorCritic, parameter_groups, update
from npkit.training.ppo_math import estimate_advantages, whiten
from npkit.training.rollouts import Reward, penalise, roll_out, score

# ---------------------------------------------------------------- ppo
STEPS = ("generation", "rendering", "judging", "optimisation")


class Clock:
    """Processor seconds by step of an update."""

    def __init__(self):
        self.seconds = Counter()

    def timed(self, step: str, function: Callable) -> Callable:
        """Return `function`, its time counted as `step`."""
        def call(*args, **options):
            started = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds[step] += time.process_time() - started
        return call


class Learner:
    """A policy under PPO with one way of being rewarded; `update` measures an update of its own."""

    def __init__(self, policy: Policy, config: PPOConfig, reward: Reward, clock: Clock):
        model, self.tokenizer = policy
        self.model, self.ref_policy, self.config, self.clock = ActorCritic(copy.deepcopy(model)), model, config, clock
        self.reward, self.scores = reward, []  # of every update
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, config))

    def update(self, prefixes: list[str], seed: int) -> Counter:
        """Make one PPO update, as `PPOTrainer.training_step` does, and return its seconds by step and in all."""
        torch.manual_seed(seed)
        self.clock.seconds.clear()
        started = time.process_time()
        rollout = self.clock.timed("generation", roll_out)(self.model, self.ref_policy, self.tokenizer, prefixes,
                                                           self.config)
        self.scores.append(score(rollout, self.reward))
        self.clock.timed("optimisation", self.optimise)(rollout, self.scores[-1])
        return Counter(self.clock.seconds) + Counter({"all": time.process_time() - started})

    def optimise(self, rollout, scores: Tensor) -> None:
        """Step on every minibatch of every PPO epoch."""
        config = self.config
        _, rewards = penalise(rollout, scores, config)
        advantages, returns = estimate_advantages(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
        update(self.model, self.optimizer, rollout, whiten(advantages, rollout.mask), returns, config=config)


class NaiveReward:
    """The gain over the prefix as one would first write it: picture by picture, through PIL, nothing remembered."""

    def __init__(self, image_model: ImageModel, judge: JudgeConfig, seed: int, clock: Clock):
        source, processor = resolve(judge.model), resolve(judge.processor or judge.model)
        self.clip = CLIPModel.from_pretrained(source, dtype=torch.float32).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(processor)
        self.processor = CLIPImageProcessorPil.from_pretrained(processor)
        self.image_model, self.seed = image_model, seed
        self.paint, self.judge = clock.timed("rendering", self.paint), clock.timed("judging", self.judge)

    def __call__(self, prefixes: list[str], completions: list[str]) -> list[float]:
        gains = []
        for prefix, completion in zip(prefixes, completions, strict=True):
            plain, painted = (self.judge(prefix, self.paint(prompt)) for prompt in (prefix, prefix + completion))
            gains.append(painted - plain)
        return gains

    def paint(self, prompt: str) -> Image:
        """Return one picture."""
        config = self.image_model.config
        with quiet_transformers():
            return self.image_model.pipeline(
                prompt, generator=torch.Generator().manual_seed(self.seed), guidance_scale=config.guidance_scale,
                num_inference_steps=config.num_inference_steps, height=config.height, width=config.width).images[0]

    @torch.no_grad()
    def judge(self, prefix: str, picture: Image) -> float:
        """Return PickScore's score of one picture."""
        pixels = self.processor(picture, return_tensors="pt")["pixel_values"]
        tokens = self.tokenizer([prefix], padding="max_length", truncation=True, return_tensors="pt",
                                max_length=self.clip.config.text_config.max_position_embeddings)
        cosine = features(self.clip.get_text_features(**tokens)) @ features(self.clip.get_image_features(pixels)).T
        return float(self.clip.logit_scale.exp() * cosine)


def shares(seconds: Counter) -> str:
    """Return the share of each step, and of what is left (cache, arithmetic), in columns."""
    rest = seconds["all"] - sum(seconds[step] for step in STEPS)
    return " ".join(f"{part / seconds['all']:12.1%}" for part in (*(seconds[step] for step in STEPS), rest))


def ppo_against_naive_loop(args: argparse.Namespace) -> None:
    """Measure `--rounds` updates of each kind, on prefixes that the cache does not know and on those that it does."""
    profile, clock = load_profile("tiny"), Clock()
    config = override(profile.ppo, episodes_per_update=args.episodes, minibatch_size=min(args.episodes, 32))
    table, _ = prepare(profile.data, seed=0)
    prefixes = sorted({prefix for prefix, split in zip(table["prefix"], table["split"], strict=True) if split == "ppo"})
    policy = build_policy(profile.policy, table["prompt"], seed=0)
    image_model, judge = load_image_model(profile.images, "cpu"), load_judge(profile.judge("pickscore"), "cpu")
    naive = Learner(policy, config, NaiveReward(image_model, judge.config, 0, clock), clock)
    image_model.render = clock.timed("rendering", image_model.render)
    judge.rate = clock.timed("judging", judge.rate)
    scorer = Scorer(image_model, {"pickscore": judge}, ScoreCache(args.cache))
    ours = Learner(policy, config, gain_over_prefix(scorer, "pickscore", 0), clock)
    image_model.render(prefixes[-1:], [0])  # the first call of everything is slower
    learners = {"naive": naive, "new prefixes": ours, "known prefixes": ours}
    rounds = []
    for number in range(args.rounds):
        part = prefixes[number * args.episodes:(number + 1) * args.episodes]
        updates = {name: learner.update(part, 2 * number + (name == "known prefixes"))
                   for name, learner in learners.items()}
        rounds.append(updates)
        spent = ", ".join(f"{name} {seconds['all']:.1f} s" for name, seconds in updates.items())
        print(f"round {number + 1}: {spent}", flush=True)
    apart = (naive.scores[0] - ours.scores[0]).abs().max()  # the first update: the same completions
    print(f"\nscores of the first update: {ours.scores[0].std():.3f} is their deviation, the two ways are at most "
          f"{apart:.5f} apart")
    print_ppo(rounds, args.episodes, config.num_updates, len(prefixes))


def print_ppo(rounds: list[dict[str, Counter]], episodes: int, num_updates: int, num_prefixes: int) -> None:
    """Print speed and shares of each kind of update, and the ratio of a whole run, to which each prefix is new once."""
    print("\nupdate          episodes/s  times naive  (lowest, highest) " + " ".join(f"{step:>12}" for step in STEPS)
          + "         rest")
    for name in rounds[0]:
        seconds = sum((one[name] for one in rounds), Counter())
        ratios = sorted(one["naive"]["all"] / one[name]["all"] for one in rounds)
        speed = episodes / median(one[name]["all"] for one in rounds)
        print(f"{name:<15} {speed:10.2f} {median(ratios):12.2f} {ratios[0]:9.2f}, {ratios[-1]:7.2f} {shares(seconds)}")
    new = min(1.0, num_prefixes / (num_updates * episodes))
    ratios = sorted(one["naive"]["all"] / (new * one["new prefixes"]["all"] + (1 - new) * one["known prefixes"]["all"])
                    for one in rounds)
    print(f"\na run of the tiny profile: {num_updates} updates x {episodes} episodes over {num_prefixes} prefixes, "
          f"{new:.0%} of the episodes with a new one:\n{median(ratios):.2f} times the naive loop's episodes per second "
          f"({ratios[0]:.2f} to {ratios[-1]:.2f})")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=64, help="episodes an update")
    parser.add_argument("--cache", default=":memory:", metavar="FILE", help="a new file; in memory where none is named")
