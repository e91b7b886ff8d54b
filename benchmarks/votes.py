"""Votes: how fast they are analysed, and how often the intervals of simulated worlds hold the truth.

    python benchmarks/votes.py                  # seconds for 10,000 simulated votes, then 1,000 worlds
    python benchmarks/votes.py --worlds 100     # fewer worlds
    python benchmarks/votes.py --kills 20       # two processes vote into one file, one of them is killed, 20 times

A world draws variants' strengths, prefixes, pictures and raters anew. Over prefixes the truth is the rate over all
prefixes of the world; over raters it is what these raters' population would say of the pairs that were shown.
"""
import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from npkit.preferences import analysis, simulated, votes

STRENGTHS = {"prefix": 0.0, "human": 0.3, "sft": 0.5, "ppo": 1.0, "ppo+nl": 1.3}  # in units of the worth
SMALL = {name: STRENGTHS[name] for name in ("prefix", "sft", "ppo")}  # of the many worlds
SPREAD, CROWD = 0.8, simulated.Crowd("public", lean=0.1)
VOTER = """
import sys
from npkit.preferences import simulated, votes
pairs, worth = simulated.draw_world({"prefix": 0.0, "ppo": 1.0}, 50, 1.0, 0, ("prettier",))
file = votes.open_votes(sys.argv[1], pairs)
for number in range(10_000):
    for vote in simulated.simulate(pairs, worth, simulated.Crowd(f"{sys.argv[2]} {number}"), 1, 50, number):
        file.add(vote)
        print(vote.rater, vote.pair, sep="/", flush=True)
"""


def votes_of_world(strengths: dict[str, float], num_prefixes: int, num_raters: int, pairs_per_rater: int, seed: int,
                   questions: tuple[str, ...] = ("prettier",)) -> tuple[pd.DataFrame, pd.Series]:
    """Return the votes of a world, and by pair the points of its first variant that its raters give on average."""
    pairs, worth = simulated.draw_world(strengths, num_prefixes, SPREAD, seed, questions)
    cast = simulated.simulate(pairs, worth, CROWD, num_raters, pairs_per_rater, seed)
    true = CROWD.expected(np.subtract(*worth[questions[0]].T))
    return votes.table_of(cast, pairs), pd.Series(true, [pair.name for pair in pairs])


def speed() -> None:
    """Print the seconds that each part of the analysis of 10,000 votes takes."""
    table, _ = votes_of_world(STRENGTHS, 150, 50, 100, 0, ("prettier", "shows"))
    scores = pd.DataFrame([(row.prefix, variant, row.seed, "a judge", len(variant)) for row in table.itertuples()
                           for variant in (row.first, row.second)],
                          columns=["prefix", "variant", "seed", "judge", "score"])
    rng, total = np.random.default_rng(0), time.perf_counter()
    parts = {"win rates": lambda: analysis.win_rates(table), "strengths": lambda: analysis.strengths(table, rng),
             "alpha": lambda: analysis.alpha(table, rng), "biases": lambda: analysis.biases(table),
             "judges": lambda: analysis.judge_agreement(table, scores)}
    for name, part in parts.items():
        start = time.perf_counter()
        part()
        print(f"{name:<10}{time.perf_counter() - start:6.2f} s")
    print(f"{len(table):,} simulated votes analysed in {time.perf_counter() - total:.2f} s")


def worlds(number: int) -> Iterator[dict[str, float]]:
    """Yield for each world which intervals held the truth, and whether the order of the variants was found."""
    names = list(SMALL)
    true = np.array([[0.5 if one == other else simulated.true_rate(CROWD, SMALL[one] - SMALL[other], SPREAD)
                      for other in names] for one in names])
    strength = analysis.fit(1e6 * true * (1 - np.eye(len(names))))
    for seed in range(number):
        table, by_pair = votes_of_world(SMALL, 60, 20, 60, seed)
        found = {}
        for over in analysis.OVER:
            rates = analysis.win_rates(table, names, over).set_index("meeting")
            shown = analysis.with_points(table, names).groupby(["first", "second"])["pair"]
            for first, second in (("ppo", "sft"), ("ppo", "prefix"), ("sft", "prefix")):
                truth = true[names.index(first), names.index(second)] if over == "prefix" else 1 - by_pair[
                    shown.get_group((first, second))].mean()
                row = rates.loc[f"{first} - {second}"]
                found[f"win rate, clusters {over}, {first} - {second}"] = row["low"] <= truth <= row["high"]
        fitted = analysis.strengths(table, np.random.default_rng(seed), 300, names).set_index("variant")
        for place, name in enumerate(names):
            found[f"strength, {name}"] = fitted["low"][name] <= strength[place] <= fitted["high"][name]
        yield found | {"order found": list(fitted["strength"].sort_values().index) == names}


def kills(number: int) -> None:
    """Print how many votes were lost when one of two processes that vote into one file was killed."""
    lost = extra = kept = 0
    for turn in range(number):
        with tempfile.TemporaryDirectory() as folder:
            file, said = Path(folder, "votes.sqlite"), [Path(folder, name) for name in ("one", "other")]
            voters = []
            for where in said:
                with open(where, "w") as output:
                    voters.append(subprocess.Popen([sys.executable, "-c", VOTER, str(file), where.name], stdout=output))
            while min(where.stat().st_size for where in said) < 400:
                time.sleep(0.01)
            time.sleep(0.05 * (turn % 10))
            voters[1].send_signal(signal.SIGKILL)
            voters[1].wait()
            time.sleep(0.3)
            voters[0].terminate()
            voters[0].wait()
            table = votes.VoteFile(file).table()
            there = set(table["rater"] + "/" + table["pair"])
            told = {line.strip() for where in said for line in where.read_text().splitlines(keepends=True)
                    if line.endswith("\n")}
            lost, extra, kept = lost + len(told - there), max(extra, len(there - told)), kept + len(there)
    print(f"{number} kills: {kept:,} votes kept, {lost} lost; at most {extra} kept that were in flight at a kill")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    if options.kills:
        kills(options.kills)
        return
    speed()
    found = pd.DataFrame(list(worlds(options.worlds)))
    print(f"\n{options.worlds:,} simulated worlds of {60 * 20:,} votes: how often the 95 % interval holds the truth")
    print(found.mean().map("{:.1%}".format).to_string())


if __name__ == "__main__":
    main()
