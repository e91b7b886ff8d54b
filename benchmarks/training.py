"""Speed of the trainings, as ratios measured in one run: `python benchmarks/training.py sft` and `... ppo`.

Both sides of a ratio run in turn in one process; processor time is measured, medians over the rounds.
"""
import argparse
import sys

import torch
import training_ppo
import training_sft

PARTS = {"sft": (training_sft.options, training_sft.sft_against_padding),
         "ppo": (training_ppo.options, training_ppo.ppo_against_naive_loop)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    for name, (add_options, _) in PARTS.items():
        part = parts.add_parser(name)
        part.add_argument("--threads", type=int, default=1)
        add_options(part)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.part}: {args.threads} threads, torch {torch.__version__}")
    sys.exit(1 if PARTS[args.part][1](args) is False else 0)


if __name__ == "__main__":
    main()
