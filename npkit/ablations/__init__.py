"""Ablations: one question a table, `npkit ablate NAME`: which part of the method earns what, over several seeds.

`arms` says what is compared, `engine` runs what is missing, `policies`, `writing` and `rewriters` measure one run,
`payments` pays PPO in other ways. `tables` turns the rows into intervals and sentences; `frontier` with `laws`, and
`interactions`, look further into two of the ablations.
"""
