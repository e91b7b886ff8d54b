"""Training: supervised fine-tuning, then PPO or its alternatives.

To be read in this order: `sft`; `ppo_math`, `rollouts`, `ppo`, `grpo`; `rails`, `reinforcement`; `checkpoints` and
`processes`; `assembly`, which puts the trainings of notebooks and command line together.
"""
