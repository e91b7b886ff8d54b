"""The published behaviours against our decoder: `python benchmarks/published.py`.

All decode the same prompts with the same model, beam size and length, in turn in one process; ratios of processor time
to ours are printed, medians over the rounds. Below 1 means that the published behaviour is faster.
"""
import argparse
from statistics import median

import torch
from neurologic import CONSTRAINTS, cpu_seconds, gpt2_small, neurologic, prompts_of, tiny

from npkit.glyphworld.corpus import generate
from npkit.neurologic.published import BEHAVIOURS, Behaviour, decode_published
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import Policy, train_tokenizer


def published(policy: Policy, prompts: list[str], config: NeurologicConfig, behaviour: Behaviour) -> None:
    """Run a published behaviour."""
    model, tokenizer = policy
    decode_published(model, tokenizer, [tokenizer.encode(prompt) for prompt in prompts], [CONSTRAINTS] * len(prompts),
                     behaviour, config.beam_size, config.max_new_tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("tiny", "gpt2-small"), default="tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=12)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = tiny() if args.model == "tiny" else gpt2_small(train_tokenizer(generate(20_000, seed=0), 1024))
    prompts = prompts_of(policy[1], args.batch, args.prompt_tokens)
    config = NeurologicConfig(max_new_tokens=args.new_tokens, beam_size=args.beam, length_penalty=1.0)
    rounds = []
    for number in range(args.rounds + 1):  # the first one warms up
        ours = cpu_seconds(neurologic, policy, prompts, config)
        others = [cpu_seconds(published, policy, prompts, config, behaviour) for behaviour in BEHAVIOURS.values()]
        rounds += [(ours, *(other / ours for other in others))] if number else []
    seconds, *ratios = map(median, zip(*rounds))
    print(f"{args.model}, {args.batch} prompts of {args.prompt_tokens} tokens, beam {args.beam}, {args.new_tokens} new "
          f"tokens, {args.rounds} rounds: ours {seconds:.2f} s, "
          + ", ".join(f"{name} {ratio:.2f} of it" for name, ratio in zip(BEHAVIOURS, ratios)))


if __name__ == "__main__":
    main()
