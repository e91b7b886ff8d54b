"""A toy to train: a two-layer policy, a reward whose best completions are known, and a kill at a chosen update."""
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from npkit.study.profiles import PPOConfig
from npkit.text.policy import train_tokenizer

PREFIXES = ["a fox", "a castle in the snow", "a fox in the snow", "a cat"] * 8
TEXTS = ["a fox, oil painting, golden hour", "a castle in the snow, watercolor", "a cat, pixel art"]
CONFIG = PPOConfig(num_updates=4, episodes_per_update=8, minibatch_size=4, num_ppo_epochs=2, max_new_tokens=6,
                   learning_rate=1e-3, kl_coef=0.05, save_updates=2)


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of a few words."""
    return train_tokenizer(TEXTS, vocab_size=300)


def toy_policy(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """Return an untrained policy, the same at every call."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=32, n_layer=2, n_head=2, bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def share_of_a(prefixes: list[str], completions: list[str]) -> list[float]:
    """The toy reward: the share of letters a."""
    return [text.count("a") / max(1, len(text)) for text in completions]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def killed_at(update_number: int):
    """Return the toy reward, which lets the training die at one update."""
    calls = []

    def reward(prefixes, completions):
        calls.append(1)
        if len(calls) == update_number:
            raise Killed
        return share_of_a(prefixes, completions)

    return reward
