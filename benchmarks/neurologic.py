"""NeuroLogic decoding against transformers' plain beam search: `python benchmarks/neurologic.py`.

Both decode the same prompts with the same model, beam size, length and kind of cache, in turn in one process; ratios of
processor time are printed, medians over the rounds. Below 1 means that NeuroLogic decoding is faster.
"""
import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from npkit.glyphworld.corpus import generate
from npkit.neurologic import Constraints, any_of, decoding, search
from npkit.neurologic.plans import compile_constraints
from npkit.neurologic.vocabulary import read_vocabulary
from npkit.study.profiles import NeurologicConfig, load_profile
from npkit.text.policy import Policy, build_policy, pad, train_tokenizer

CLAUSES = (("oil painting", "watercolor painting", "pixel art", "pencil sketch", "photograph", "3d render",
            "advertising poster", "stained glass window", "digital art", "concept art"),
           ("greg rutkowski", "alphonse mucha", "caravaggio", "vincent van gogh", "claude monet", "piet mondrian",
            "katsushika hokusai", "andy warhol", "gustave dore", "hieronymus bosch"),
           ("moody", "cinematic", "fantasy", "colorful", "atmospheric", "magical", "stormy", "faded", "dreamy",
            "golden hour"))
BANNED = ("8k", "highly detailed", "trending on artstation", "text", "blurry", "watermark", "signature", "out of frame")
CONSTRAINTS = Constraints(tuple((f"clause {number}", any_of(*phrases)) for number, phrases in enumerate(CLAUSES, 1)),
                          BANNED)
SELECTION = ("forbid", "expand", "rank", "finish", "may_stop")  # methods of Rules; with take_turns and follow


def gpt2_small(tokenizer: PreTrainedTokenizerFast) -> Policy:
    """Return a GPT-2 of 124 M random parameters with 50,257 logits."""
    torch.manual_seed(0)
    eos = tokenizer.eos_token_id
    config = GPT2Config(bos_token_id=eos, eos_token_id=eos, pad_token_id=tokenizer.pad_token_id)
    return GPT2LMHeadModel(config).eval(), tokenizer


def tiny() -> Policy:
    """Return the tiny profile's policy, untrained."""
    model, tokenizer = build_policy(load_profile("tiny").policy, generate(20_000, seed=0), seed=0)
    return model.eval(), tokenizer


def prompts_of(tokenizer: PreTrainedTokenizerFast, batch_size: int, num_tokens: int) -> list[str]:
    """Return prompts of about `num_tokens` tokens without a banned word."""
    words = ("a", "quiet", "castle", "tower", "on", "the", "hill", "at", "dawn", "in", "wind", "by", "the", "sea")
    prompts = []
    for start in range(batch_size):
        text = words[start % len(words)]
        while len(tokenizer.encode(text)) < num_tokens:
            text += " " + words[(start + len(text)) % len(words)]
        prompts.append(text)
    return prompts


def plain_beam(policy: Policy, prompts: list[str], config: NeurologicConfig) -> None:
    """Run transformers' beam search to the last token."""
    model, tokenizer = policy
    ids, mask = pad([tokenizer.encode(prompt) for prompt in prompts], model, "left")
    settings = GenerationConfig(num_beams=config.beam_size, do_sample=False, max_new_tokens=config.max_new_tokens,
                                length_penalty=config.length_penalty, eos_token_id=tokenizer.eos_token_id,
                                pad_token_id=tokenizer.pad_token_id)
    output = model.generate(ids, attention_mask=mask, generation_config=settings)
    assert output.shape[1] == ids.shape[1] + config.max_new_tokens, "plain beam search ended early"


def neurologic(policy: Policy, prompts: list[str], config: NeurologicConfig) -> None:
    """Run NeuroLogic decoding to the last token."""
    vocabulary, jobs = decoding.plan(*policy, prompts, CONSTRAINTS, config)
    found = decoding.search(policy[0], vocabulary, jobs, config)
    assert found.length == config.max_new_tokens, "NeuroLogic decoding ended early"


def cpu_seconds(function: Callable, *arguments) -> float:
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


def compile_milliseconds(policy: Policy) -> float:
    """Return the milliseconds that one set of constraints takes to compile, the vocabulary being read."""
    vocabulary = read_vocabulary(policy[1], policy[0].config.vocab_size)
    seconds = []
    for number in range(5):
        compile_constraints.cache_clear()
        seconds.append(cpu_seconds(compile_constraints, CONSTRAINTS, vocabulary))
    return 1000 * median(seconds)


def selection_share(policy: Policy, prompts: list[str], config: NeurologicConfig) -> float:
    """Return the share of the search's processor time that bans and selection take."""
    spent = 0.0

    def timed(function: Callable) -> Callable:
        def call(*arguments):
            nonlocal spent
            started = time.process_time()
            try:
                return function(*arguments)
            finally:
                spent += time.process_time() - started
        return call

    places = [*((search.Rules, name) for name in SELECTION), (search, "take_turns"), (search.Beam, "follow")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in places]
    try:
        for owner, name, original in originals:
            setattr(owner, name, timed(original))
        total = cpu_seconds(neurologic, policy, prompts, config)
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    return spent / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="gpt2-small,tiny")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--prompt-tokens", default="12,64")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--new-tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"beam {args.beam}, {args.new_tokens} new tokens, 3 clauses of 10 phrases, 8 bans, {args.rounds} rounds, "
          f"{args.threads} threads, torch {torch.__version__}")
    print("model        batch  prompt  plain s  ratio  lowest  highest  selection and bans  compile ms")
    makers = {"gpt2-small": lambda: gpt2_small(train_tokenizer(generate(20_000, seed=0), 1024)), "tiny": tiny}
    for name in args.models.split(","):
        policy = makers[name]()
        for batch_size in map(int, args.batches.split(",")):
            for num_tokens in map(int, args.prompt_tokens.split(",")):
                room = policy[0].config.max_position_embeddings - num_tokens - 4
                config = NeurologicConfig(max_new_tokens=min(args.new_tokens, room), beam_size=args.beam,
                                          length_penalty=1.0)  # as plain beam search, and so that both run to the end
                prompts = prompts_of(policy[1], batch_size, num_tokens)
                neurologic(policy, prompts[:1], config)
                pairs = [(cpu_seconds(plain_beam, policy, prompts, config),
                          cpu_seconds(neurologic, policy, prompts, config)) for _ in range(args.rounds)]
                ratios = sorted(ours / plain for plain, ours in pairs)
                share, compile_time = selection_share(policy, prompts, config), compile_milliseconds(policy)
                print(f"{name:<12} {batch_size:>5} {num_tokens:>7} {median(plain for plain, _ in pairs):8.2f} "
                      f"{median(ratios):6.2f} {ratios[0]:7.2f} {ratios[-1]:8.2f} "
                      f"{share:19.1%} {compile_time:11.1f}", flush=True)


if __name__ == "__main__":
    main()
