"""Defects that the regression gate must find, put into a process by its environment: NPKIT_DEFECT names one.

Python imports this file at its start where its folder is on PYTHONPATH (`benchmarks/gate.py` puts it there), in Jupyter
kernels too. Nothing of the package changes: a function is replaced in memory right after its module was imported.
"""
import importlib.abc
import importlib.machinery
import os
import sys


def flip_kl(rollouts) -> None:
    """The KL penalty becomes a bonus: the policy is paid for leaving SFT's."""
    whole = rollouts.token_rewards
    rollouts.token_rewards = lambda scores, logprobs, ref, mask, kl_coef: whole(scores, logprobs, ref, mask, -kl_coef)


def shuffle_rewards(rollouts) -> None:
    """Every completion gets the score of another of its update; the mean score stays what it was."""
    whole = rollouts.ask

    def ask(reward, prefixes, completions):
        scores = whole(reward, prefixes, completions)
        return scores.roll(1)

    rollouts.ask = ask


def leak_prefixes(corpus) -> None:
    """Every second prompt of the test split changes places with one of SFT's: no count of the data stage changes."""
    whole = corpus.split_by_prefix

    def split_by_prefix(prefixes, shares, rng):
        splits = whole(prefixes, shares, rng)
        test, sft = ([row for row, name in enumerate(splits) if name == wanted] for wanted in ("test", "sft"))
        for one, other in zip(test[::2], sft, strict=False):
            splits[one], splits[other] = splits[other], splits[one]
        return splits

    corpus.split_by_prefix = split_by_prefix


def judge_wrong_picture(rewards) -> None:
    """Judges get the picture of the next prompt of the batch, as after an index that is off by one."""
    whole = rewards.Scorer.judge

    def judge(self, name, cases, painted=None):
        if painted:
            pictures = [*painted.values()]
            painted = dict(zip(painted, pictures[1:] + pictures[:1], strict=True))
        whole(self, name, cases, painted)

    rewards.Scorer.judge = judge


DEFECTS = {"kl_sign": ("npkit.training.rollouts", flip_kl), "shuffled": ("npkit.training.rollouts", shuffle_rewards),
           "leak": ("npkit.text.corpus", leak_prefixes),
           "wrong_picture": ("npkit.scoring.rewards", judge_wrong_picture)}


class Saboteur(importlib.abc.MetaPathFinder):
    """Finds one module as Python does, and changes it after it was loaded."""

    def __init__(self, module: str, change):
        self.module, self.change = module, change

    def find_spec(self, fullname, path, target=None):
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        load = spec.loader.exec_module

        def load_and_change(module) -> None:
            load(module)
            self.change(module)

        spec.loader.exec_module = load_and_change
        return spec


if os.environ.get("NPKIT_DEFECT"):
    sys.meta_path.insert(0, Saboteur(*DEFECTS[os.environ["NPKIT_DEFECT"]]))
