"""Policy: the language model that continues a prefix, with its tokenizer: built, loaded, saved, sampled, scored."""
import hashlib
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from npkit.errors import NpkitError, PrefixTooLong, PromptTooLong
from npkit.study.contents import resolve
from npkit.study.profiles import PolicyConfig

EOS, PAD = "<|endoftext|>", "<|pad|>"
FAST_GELU = "gelu_pytorch_tanh"  # gelu_new's formula in one kernel: 2.4 times faster on a CPU
Policy = tuple[PreTrainedModel, PreTrainedTokenizerFast]


# 1. Build, load, save ------------------------------------------------------------------------------------------------
def train_tokenizer(prompts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of at most `vocab_size` tokens, which can spell any text, learnt from `prompts`."""
    bytes_of_text = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = bytes_of_text, decoders.ByteLevel()
    bpe.train_from_iterator(prompts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[EOS, PAD], initial_alphabet=bytes_of_text.alphabet(),
        show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=EOS, eos_token=EOS, pad_token=PAD)


def build_policy(config: PolicyConfig, prompts: Iterable[str], seed: int) -> Policy:
    """Return the pretrained policy, or one from scratch whose tokenizer is learnt from `prompts`."""
    if config.pretrained:
        return load_policy(config.pretrained)
    tokenizer = train_tokenizer(prompts, config.vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return named_loss(AutoModelForCausalLM.from_config(architecture(config, tokenizer))), tokenizer


def architecture(config: PolicyConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Return the configuration of a policy from scratch: GPT-2 of these sizes, or another kind of as many weights."""
    width, sizes = config.hidden_size, {"num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads}
    match config.architecture:
        case "gpt2":
            sizes |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "activation_function": FAST_GELU}
        case "llama":  # a gated MLP has three matrices where GPT-2's has two
            sizes |= {"intermediate_size": round(8 * width / 3)}
        case "gpt_neox":
            sizes |= {"intermediate_size": 4 * width, "hidden_act": FAST_GELU}
        case "mamba":  # blocks without attention, of about half the weights
            step = math.ceil(width / 16)  # rank of the step sizes; 16 states, 4 taps
            block = 6 * width**2 + 2 * width * (2 * step + 32 + 16 + 7) + width
            sizes = {"num_hidden_layers": max(1, round(config.num_layers * (12 * width**2 + 13 * width) / block))}
    special = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id,
               "pad_token_id": tokenizer.pad_token_id}
    return AutoConfig.for_model(config.architecture, vocab_size=len(tokenizer), hidden_size=width,
                                max_position_embeddings=config.max_prompt_tokens, tie_word_embeddings=True,
                                **sizes, **special)


def load_policy(name: str | Path) -> Policy:
    """Return the causal language model and tokenizer of a folder or hub id, with a pad token of its own."""
    source = resolve(str(name))
    try:
        config = AutoConfig.from_pretrained(source)
        if getattr(config, "activation_function", "") == "gelu_new":
            config.activation_function = FAST_GELU
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=torch.float32)  # bf16 is autocast's
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NpkitError(f"policy {source!r} is no causal language model that can be loaded, neither a folder nor a "
                         f"reachable hub id: {str(error).splitlines()[0]}") from error
    check_tokenizer(tokenizer, source)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise NpkitError(f"policy {source!r} has {len(tokenizer)} tokens in its tokenizer and only "
                         f"{model.get_input_embeddings().num_embeddings} in its model: they do not belong together")
    return with_pad_token(named_loss(model), tokenizer)


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, source: str) -> None:
    """Raise on the empty tokenizer that transformers invents for a folder without one."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise NpkitError(f"policy {source!r} has no tokenizer: save one into the folder with save_pretrained()")


def named_loss(model: PreTrainedModel) -> PreTrainedModel:
    """Return `model` with its loss named: GPT-2's is None, which warns and deflates the loss of padded batches."""
    model.loss_type = "ForCausalLM"
    return model


def with_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Policy:
    """Return the policy with a pad token that is not EOS: with one token for both, EOS can drop out of the loss."""
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            append_mean_token(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = plain_generation(tokenizer)
    return model, tokenizer


def plain_generation(tokenizer: PreTrainedTokenizerFast, **settings) -> GenerationConfig:
    """Return transformers' defaults with `settings`, EOS as the end, and without padding among the tokens to write."""
    return GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
                            bos_token_id=tokenizer.bos_token_id, suppress_tokens=[tokenizer.pad_token_id], **settings)


@torch.no_grad()
def append_mean_token(model: PreTrainedModel) -> None:
    """Add one token to the model, embedded as the mean of the others, so that it is neither likely nor random."""
    model.resize_token_embeddings(model.get_input_embeddings().num_embeddings + 1, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        layer.weight[-1] = layer.weight[:-1].mean(0)


def is_recurrent(model: PreTrainedModel) -> bool:
    """Say whether the model carries a state from token to token, which no mask resets where a new prompt begins."""
    return model._is_stateful


def is_recurrent_kind(config: PolicyConfig) -> bool:
    """Say whether a policy of these settings will be recurrent; False of one that is not on this machine yet."""
    try:
        found = (AutoConfig.from_pretrained(resolve(config.pretrained), local_files_only=True) if config.pretrained
                 else AutoConfig.for_model(config.architecture))
    except (OSError, ValueError):
        return False
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(found)]._is_stateful


def num_positions(config: PolicyConfig) -> int:
    """Return how many tokens a policy of these settings takes: `max_prompt_tokens`, or what it was made for if fewer.

    A pretrained one that is not on this machine yet is taken at the settings' word.
    """
    try:
        found = config.pretrained and AutoConfig.from_pretrained(resolve(config.pretrained), local_files_only=True)
    except (OSError, ValueError):
        found = None
    return min(config.max_prompt_tokens, getattr(found, "max_position_embeddings", config.max_prompt_tokens))


def check_name(config: PolicyConfig) -> None:
    """Raise where the pretrained policy is a folder here without a model, or no name that the hub could have."""
    source = resolve(config.pretrained)
    try:
        if os.path.exists(source):
            AutoConfig.from_pretrained(source)
        elif source:
            validate_repo_id(source)
    except (OSError, ValueError) as error:
        raise NpkitError(f"policy.pretrained {config.pretrained!r} is neither a folder with a causal language model "
                         f"nor an id of the hub: {str(error).splitlines()[0]}") from error


def early_tokenizer(config: PolicyConfig, prompts: Iterable[str]) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer that a policy of these settings will have; None of one that is not on this machine yet."""
    if not config.pretrained:
        return train_tokenizer(prompts, config.vocab_size)
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(config.pretrained), local_files_only=True)
    except (OSError, ValueError):
        return None
    check_tokenizer(tokenizer, config.pretrained)
    return tokenizer


def max_tokens(model: PreTrainedModel) -> int:
    """Return the number of tokens the model takes; a pretrained Mamba takes any."""
    return getattr(model.config, "max_position_embeddings", sys.maxsize)


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write model (safetensors) and tokenizer into `folder`, where `load_policy` finds them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# 2. Text to tokens ---------------------------------------------------------------------------------------------------
def fits(tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str], max_prefix_tokens: int) -> list[bool]:
    """Say for each prefix whether it has at least one token and at most `max_prefix_tokens`."""
    return [0 < len(ids) <= max_prefix_tokens for ids in tokenizer(list(prefixes))["input_ids"]]


def encode_with_room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str],
                     max_new_tokens: int) -> list[list[int]]:
    """Return the token ids of each prefix; raise where one leaves no room in the model for so many new tokens."""
    positions = max_tokens(model)
    if positions <= max_new_tokens:
        raise NpkitError(f"max_new_tokens is {max_new_tokens}, and the policy's {positions} positions (n_positions) "
                         "leave no room for a prefix beside them: lower it")
    return encode_prefixes(tokenizer, prefixes, positions - max_new_tokens,
                           f"its {positions} positions (n_positions) less {max_new_tokens} of max_new_tokens; shorten "
                           "the prefix, or lower max_new_tokens")


def encode_prefixes(tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str], max_prefix_tokens: int,
                    why: str = "policy.max_prefix_tokens; shorten the prefix") -> list[list[int]]:
    """Return the token ids of each prefix; an empty or a longer one raises, and says why the limit is what it is."""
    prefix_ids = tokenizer(list(prefixes))["input_ids"] if prefixes else []
    for prefix, ids in zip(prefixes, prefix_ids):
        if not prefix.strip():
            raise NpkitError("the prefix is empty: the policy needs at least one word to continue")
        if len(ids) > max_prefix_tokens:
            raise PrefixTooLong(f"prefix has {len(ids)} tokens, the policy's limit is {max_prefix_tokens} ({why}): "
                                f"{prefix[:60]!r}")
    return prefix_ids


def batches(items: Sequence, batch_size: int) -> Iterator[Sequence]:
    """Yield `items` in order, `batch_size` at a time."""
    for start in range(0, len(items), batch_size):
        yield items[start:start + batch_size]


def pad(sequences: Sequence[Sequence[int]], model: PreTrainedModel, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask (True = keep), both (batch, time), padded on the `side` "left" or "right"."""
    rows = [torch.tensor(ids) for ids in sequences]
    fill = model.config.pad_token_id or 0  # masked, so that any token would do
    ids = pad_sequence(rows, batch_first=True, padding_value=fill, padding_side=side)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)
    return ids.to(model.device), mask.bool().to(model.device)


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Switch dropout and gradients off inside the block."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


# 3. Sample -----------------------------------------------------------------------------------------------------------
def draw(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefix_ids: Sequence[Sequence[int]],
         noise: Sequence[LogitsProcessor] = (), **settings) -> list[list[int]]:
    """Return the ids that follow each prefix, EOS included, by these generation settings and by no others.

    transformers completes a configuration by the model's own: a checkpoint that was saved with, say, a repetition
    penalty would sample from another distribution than the one whose log-probabilities a training computes.
    """
    ids, mask = pad(prefix_ids, model, "left")
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with evaluating(model):
            tokens = model.generate(ids, attention_mask=mask, logits_processor=list(noise),
                                    generation_config=plain_generation(tokenizer, **settings))
    finally:
        model.generation_config = own
    rows, eos = tokens[:, ids.shape[1]:].tolist(), tokenizer.eos_token_id
    return [row[:row.index(eos) + 1] if eos in row else row for row in rows]  # what follows EOS is padding


class GumbelNoise(LogitsProcessor):
    """Makes sampling of greedy decoding: the argmax of logits / temperature + Gumbel noise is a draw from the softmax.

    Every row has a generator of its own, so a draw does not depend on the other rows, as multinomial's would.
    """

    def __init__(self, generators: Sequence[torch.Generator], temperature: float):
        self.generators, self.temperature = generators, temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        size = scores.shape[-1]
        noise = [-torch.empty(size).exponential_(generator=generator).log() for generator in self.generators]
        return scores / self.temperature + torch.stack(noise).to(scores.device)


def row_generators(prefixes: Sequence[str], generator_seed: int) -> list[torch.Generator]:
    """Return a generator for each prefix, seeded by `generator_seed`, its words and how often it came before."""
    seen, generators = Counter(), []
    for prefix in prefixes:
        digest = hashlib.sha256(f"{generator_seed}/{seen[prefix]}/{prefix}".encode()).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True)))
        seen[prefix] += 1
    return generators


def generate_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str], *,
                 max_new_tokens: int, generator_seed: int, temperature: float = 1.0, do_sample: bool = True,
                 batch_size: int = 64) -> list[list[int]]:
    """Return the ids of a completion for each prefix, EOS included where it ended; see `generate`."""
    if temperature <= 0:
        raise NpkitError(f"temperature must be above 0, got {temperature}; do_sample=False takes the likeliest tokens")
    prefix_ids = encode_with_room(model, tokenizer, prefixes, max_new_tokens)
    rows, found = list(zip(prefix_ids, row_generators(prefixes, generator_seed))), []
    for batch in batches(rows, batch_size):
        noise = [GumbelNoise([generator for _, generator in batch], temperature)] if do_sample else []
        found += draw(model, tokenizer, [ids for ids, _ in batch], noise, max_new_tokens=max_new_tokens)
    return found


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str], **options
             ) -> list[str]:
    """Return a completion for each prefix, sampled at `temperature` or the likeliest token by token.

    Neither the order nor the batches change a completion (but for rounding: padding moves the last bit of a logit).
    `options` are those of `generate_ids`.
    """
    found = generate_ids(model, tokenizer, prefixes, **options)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in found]


# 4. Score ------------------------------------------------------------------------------------------------------------
def token_logprobs(model: PreTrainedModel, sequences: Sequence[Sequence[int]],
                   batch_size: int = 16) -> list[torch.Tensor]:
    """Return for each sequence of ids the log-probabilities (time - 1,) of its tokens after the first, in nats."""
    logprobs = []
    for batch in batches(sequences, batch_size):
        ids, mask = pad(batch, model, "right")
        with evaluating(model):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        logprobs += [-loss[keep].cpu() for loss, keep in zip(losses, mask[:, 1:])]
    return logprobs


def longest_scored_prefix(config: PolicyConfig, max_new_tokens: int) -> int:
    """Return how long a prefix may be so that `sequence_logprobs` can read whatever is sampled behind it.

    A token that is a piece of a letter is decoded as U+FFFD, and this may take three tokens when it is read again.
    """
    return max(0, min(config.max_prefix_tokens, num_positions(config) - 3 * max_new_tokens - 1))


def sequence_logprobs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str],
                      completions: Sequence[str]) -> list[float]:
    """Return log p(completion, EOS | prefix) of each pair in nats: the sum over the completion's tokens and EOS."""
    prefix_ids = encode_prefixes(tokenizer, prefixes, max_tokens(model) - 1, "its positions (n_positions) less EOS")
    completion_ids = tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    sequences = [start + rest + [tokenizer.eos_token_id] for start, rest in zip(prefix_ids, completion_ids)]
    longest = max(map(len, sequences), default=0)
    if longest > max_tokens(model):
        raise PromptTooLong(f"a prompt has {longest} tokens with EOS, and the policy takes {max_tokens(model)}")
    logprobs = token_logprobs(model, sequences)
    return [row[len(start) - 1:].sum().item() for row, start in zip(logprobs, prefix_ids)]
