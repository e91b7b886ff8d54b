"""Toy policy: a GPT-2 over a handful of words whose probabilities are written down, so that its best text is known."""
from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from npkit.text.policy import EOS, PAD, Policy

UNKNOWN = "<|unknown|>"


def toy_policy(tokens: Sequence[str], next_probs: Mapping[str, Mapping[str, float]], max_tokens: int = 32) -> Policy:
    """Return a bigram policy: `next_probs[token][next]` is a probability, `""` the end, whatever is left out is even.

    Tokens are words with the space before them, such as " fox". The network is a real GPT-2: one-hot embeddings, one
    block that adds nothing, and the table of log-probabilities as output layer.
    """
    names = [*tokens, "", PAD, UNKNOWN]
    probs = torch.full((len(names), len(names)), 1e-12)
    for row, token in enumerate(tokens):
        given = next_probs.get(token, {})
        even = max(0.0, 1 - sum(given.values())) / max(1, len(tokens) + 1 - len(given))
        probs[row, :len(tokens) + 1] = torch.tensor([given.get(name, even) for name in names[:len(tokens) + 1]])
    return _bigram_gpt2(probs.clamp(min=1e-12).log(), max_tokens), _word_tokenizer(tokens)


@torch.no_grad()
def _bigram_gpt2(logprobs: torch.Tensor, max_tokens: int) -> GPT2LMHeadModel:
    size = len(logprobs)
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=size, n_positions=max_tokens, n_embd=size, n_layer=1, n_head=1, tie_word_embeddings=False,
        bos_token_id=size - 3, eos_token_id=size - 3, pad_token_id=size - 2)).eval()
    for weights in model.parameters():
        weights.zero_()
    norm = model.transformer.ln_f  # turns the one-hot vector into sqrt(size - 1) and -1 / sqrt(size - 1), and back
    root = (size - 1) ** 0.5
    model.transformer.wte.weight.copy_(1000 * torch.eye(size))
    norm.weight.fill_(1 / (root + 1 / root))
    norm.bias.fill_(1 / root / (root + 1 / root))
    model.lm_head.weight.copy_(logprobs.T)
    return model


def _word_tokenizer(tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled = [token.replace(" ", "Ġ") for token in tokens]
    vocab = {token: number for number, token in enumerate([*spelled, EOS, PAD, UNKNOWN])}
    words = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    words.pre_tokenizer, words.decoder = alphabet, decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token=EOS, eos_token=EOS, pad_token=PAD,
                                   unk_token=UNKNOWN)
