"""Lesson 07 where ablations have been run: its cells of 7.5 and 7.6 on made-up rows, as no test trains for hours."""
import json

import anatomy
import numpy as np
import pandas as pd
from conftest import ROOT

from npkit.ablations import engine, tables

JUDGES = ("pickscore", "aesthetic", "heldout", "oracle")
LESSON = ROOT / "notebooks/07_ablations.ipynb"
FIGURES = {f"07_{name}.png" for name in ("prefix", "stages", "reward", "frontier", "algorithm", "architecture",
                                         "rewriters", "decoding", "constraints", "interactions", "tastes",
                                         "transfer")}


def made_up(trials) -> pd.DataFrame:
    """Return a row a trial: gains of twenty prefixes by every judge, and a curve."""
    rng, curve = np.random.default_rng(0), np.linspace(0, 3, 6)
    return pd.DataFrame([{"arm": trial.arm.name, "seed": trial.seed, "curve/kl": list(curve)} | {
        f"gain/{judge}": rng.normal(rng.normal(1, 0.2), 0.1, 20).tolist() for judge in JUDGES} | {
        f"curve/{judge}": list(curve - curve**2 / 9) for judge in JUDGES} for trial in trials])


def test_every_ablation_that_was_run_has_its_table_finding_and_figure(shell, monkeypatch, npkit_home, capsys):
    monkeypatch.setattr(engine, "rows_of", made_up)
    monkeypatch.setattr(tables, "rows_of", made_up)
    monkeypatch.setattr(tables, "path_of", lambda *ablation_and_profile: LESSON)  # there is a file, whatever it holds
    cells = anatomy.code_cells(LESSON)
    first = next(number for number, cell in enumerate(cells) if cell.startswith("shipped = "))
    needed = [cell for cell in cells[:first] if cell.startswith(("profile: str", "from functools", "studies = "))]
    shell.reset()
    interval = "seed_interval = lambda *both: across_seeds.mean_over_seeds(np.subtract(*both).mean(axis=1))"
    for cell in [*needed[:2], interval, needed[2], *cells[first:-1]]:
        shell.run_cell(cell).raise_error()
    said = capsys.readouterr().out
    assert said.count("Source: 3 seeds, run on this machine.") == 10
    assert said.count("over 3 seeds") == 9  # what `tastes` says is in a table of its own
    assert "need the runs" not in said and "not run yet" not in said
    made = {path.name for path in (npkit_home / "artifacts/tiny/figures/seed0").iterdir()}
    assert made == FIGURES


def test_every_ablation_is_shown_and_has_a_picture():
    from npkit.ablations.arms import ABLATIONS
    text = json.dumps(json.loads(LESSON.read_text(encoding="utf-8")))
    assert all(f"../figures/07_{name}.png" in text and f'answer(\\"{name}\\"' in text for name in ABLATIONS)
