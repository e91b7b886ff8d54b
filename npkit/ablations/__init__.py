"""Ablations: one question a table, `npkit ablate NAME`: which part of the method earns what, over several seeds.

`arms` says what is compared, `engine` runs what is missing, `policies` and `writing` measure one run, `payments` pays
PPO in other ways, `laws` fits the price of optimising, `tables` turns the rows into intervals and sentences.
"""
