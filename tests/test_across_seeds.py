"""Across seeds: means and intervals worked by hand, and an interval that covers as often as it says."""
import numpy as np
import pandas as pd
import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.findings import across_seeds
from npkit.findings.intervals import interval_over_seeds
from npkit.findings.variants import VARIANTS
from npkit.study.artifacts import open_run


def metrics_of(gain: float) -> dict[str, float]:
    gains = {f"oracle_gain/{variant}": gain + 0.1 * number for number, variant in enumerate(VARIANTS[1:])}
    return gains | {"ppo_minus_sft/oracle": gain, "ppo_minus_sft/oracle_low": gain - 1,
                    "ppo_minus_sft/oracle_high": gain + 1}


def test_the_interval_of_three_seeds_is_students():
    mean, low, high = across_seeds.mean_over_seeds([1.0, 2.0, 3.0])
    assert (mean, round(high - mean, 3)) == (2.0, 2.484)  # 4.303 of Student's t, times 1 / sqrt(3)
    assert mean - low == pytest.approx(high - mean)


def test_the_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.7, 0.3, (1000, 5))
    covered = [low <= 0.7 <= high for _, low, high in map(across_seeds.mean_over_seeds, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_seeds_that_agree_have_an_interval_of_no_width():
    assert across_seeds.mean_over_seeds([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert across_seeds.signed(*across_seeds.mean_over_seeds([0.0, 0.0])) == "constant"


def test_one_seed_has_no_interval():
    table = across_seeds.gain_table({0: metrics_of(1.0)}, ["oracle"])
    assert across_seeds.readable_gains(table).loc["human", "oracle"] == "+1.00"
    assert list(across_seeds.readable_differences(
        across_seeds.difference_table({0: metrics_of(1.0)}, ["oracle"])).index) == ["0"]


def test_tables_hold_every_variant_and_every_seed():
    found = {seed: metrics_of(gain) for seed, gain in {0: 1.0, 3: 2.0, 5: 3.0}.items()}
    gains = across_seeds.readable_gains(across_seeds.gain_table(found, ["oracle"]))
    assert list(gains.index) == list(VARIANTS[1:])
    assert gains.loc["human", "oracle"] == "+2.00 [-0.48, 4.48]"
    differences = across_seeds.readable_differences(across_seeds.difference_table(found, ["oracle"]))
    assert differences["oracle"].tolist() == ["+1.00 [0.00, 2.00]", "+2.00 [1.00, 3.00]", "+3.00 [2.00, 4.00]",
                                              "+2.00 [-0.48, 4.48]", "1.00"]


def test_a_judge_that_scores_everything_alike_says_so():
    assert across_seeds.signed(0.0, 0.0, 0.0) == "constant"


def studies(*gains: float, judge: str = "aesthetic") -> dict[int, dict[str, float]]:
    """Return the metrics of studies whose systems gain more in the paper's order, but for ppo, below sft+nl."""
    shares = {"human": 1.0, "sft": 1.0, "sft+nl": 2.0, "ppo": 1.5, "ppo+nl": 2.5}
    return {seed: {f"{judge}_gain/{variant}": gain * share + 0.01 * seed * (variant == "sft")
                   for variant, share in shares.items()} for seed, gain in enumerate(gains)}


def test_orderings_of_the_paper_that_hold_and_that_do_not():
    table = across_seeds.orderings(studies(1.0, 1.01, 0.99)).set_index("pair")
    assert len(table) == 15
    assert table["adjacent"].sum() == 5
    assert table.loc["ppo+nl - human", "paper"] == 0.35  # the paper's gap
    assert table.loc["ppo - sft+nl", "difference"] == pytest.approx(-0.5)
    assert table["verdict"].to_dict().items() >= {"ppo - sft+nl": "disagrees", "ppo+nl - ppo": "agrees",
                                                   "sft - human": "open", "ppo - prefix": "agrees"}.items()
    # sft - human is 0, 0.01, 0.02: t = 0.01 / (0.01 / sqrt(3)) = 1.732 with 2 degrees of freedom, p = 0.2254
    assert table.loc["sft - human", "p"] == pytest.approx(0.2254, abs=1e-4)


def test_orderings_of_one_study_are_open():
    table = across_seeds.orderings(studies(1.0))
    assert set(table["verdict"]) == {"open"}
    assert across_seeds.readable_orderings(table).loc["ppo+nl - ppo", "here"] == "+1.00"


def test_the_summary_counts_and_names():
    text = across_seeds.summary(across_seeds.orderings(studies(1.0, 1.01, 0.99)))
    assert "Of the paper's 15 orderings" in text
    assert "13 clearly hold here, 1 clearly the other way round (ppo - sft+nl)" in text
    assert "and 1 are open (sft - human)." in text


def test_a_study_without_a_variant_is_named():
    found = studies(1.0, 2.0)
    del found[1]["aesthetic_gain/ppo+nl"]
    with pytest.raises(NpkitError, match="seed 1 has no aesthetic_gain/ppo.nl"):
        across_seeds.gain_table(found, ["aesthetic"])


def test_gains_by_prefix_have_a_row_a_seed():
    rows = pd.DataFrame([(prefix, variant, 7, "oracle", score) for prefix, scores in {"a": (1, 3), "b": (2, 2)}.items()
                         for variant, score in zip(("prefix", "ppo"), scores, strict=True)],
                        columns=["prefix", "variant", "seed", "judge", "score"])
    table = across_seeds.gains_by_prefix({0: rows, 4: rows.replace({"prefix": {"b": "c"}})}, "oracle", "ppo")
    assert table.loc[0, ["a", "b"]].tolist() == [2, 0]
    assert table.loc[4].isna().to_dict() == {"a": False, "b": True, "c": False}
    assert interval_over_seeds(table).mean == 1


def test_the_interval_of_a_mean_foretells_a_repetition_less_often_than_a_prediction():
    """As the docstring of `replicates` says: 79 of 100 and 95 of 100, for two new studies and a table of five."""
    gains = np.random.default_rng(0).normal(1, 0.2, (7, 400))
    found = [{f"oracle_gain/{cell}": gain for cell, gain in enumerate(row)} for row in gains]
    old, new = (across_seeds.gain_table(dict(enumerate(part)), ["oracle"]) for part in (found[:5], found[5:]))
    shares = [across_seeds.replicates(old, new, ends).share for ends in (("low", "high"), ("next_low", "next_high"))]
    assert shares == pytest.approx([0.79, 0.95], abs=0.05)


def test_replicates_names_the_cells_that_missed_and_leaves_out_constant_ones():
    old = across_seeds.gain_table({0: {"oracle_gain/sft": 1.0, "oracle_gain/ppo": 1.0, "oracle_gain/sft+beam": 0.0},
                                   1: {"oracle_gain/sft": 1.2, "oracle_gain/ppo": 1.2, "oracle_gain/sft+beam": 0.0}},
                                  ["oracle"])
    new = old.assign(gain=old["variant"].map({"sft": 1.1, "ppo": 9.0, "sft+beam": 0.0}))
    found = across_seeds.replicates(old, new)
    assert (found.share, found.num_cells, found.missed["variant"].tolist()) == (0.5, 2, ["ppo"])
    with pytest.raises(NpkitError, match="in one of them alone: oracle ppo"):
        across_seeds.replicates(old, new[new["variant"] != "ppo"])
    with pytest.raises(NpkitError, match="rests on one seed"):
        across_seeds.replicates(across_seeds.gain_table({0: {"oracle_gain/sft": 1.0}}, ["oracle"]),
                                old[old["variant"] == "sft"])


def test_the_block_has_both_tables():
    found = {seed: each | {f"oracle{name[len('aesthetic'):]}": gain for name, gain in each.items()}
             for seed, each in studies(1.0, 1.2, 0.9).items()}
    block = across_seeds.readme_block(found, ["aesthetic", "oracle"], 200, "npkit compare --seeds 0 1 2")
    # gains of ppo 1.5, 1.8, 1.35: deviation 0.2291; t(2) = 4.3027, times sqrt(1/3 + 1/2)
    assert "ppo      +1.55 [0.65, 2.45]  +1.55 [0.65, 2.45]" in block
    assert "ppo - sft+nl" in block and "ppo+nl - human" in block
    assert max(map(len, block.splitlines())) <= 120


@pytest.mark.parametrize("text", ["no markers", "{begin}\n", "{end}\n{begin}\n", "{begin}\n{end}\n{begin}\n{end}\n"])
def test_a_file_without_its_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text.format(begin=across_seeds.MARKERS[0], end=across_seeds.MARKERS[1]))
    before = path.read_text()
    with pytest.raises(NpkitError, match="needs the line <!-- results: begin --> once.*nothing was written"):
        across_seeds.replace_block(path, "new")
    assert path.read_text() == before


def test_what_stands_between_the_markers_is_replaced_and_nothing_else(tmp_path):
    begin, end = across_seeds.MARKERS
    path = tmp_path / "README.md"
    path.write_text(f"# title\n{begin}\nold\n{end}\nrest\n")
    for block in ("new", "newer"):
        across_seeds.replace_block(path, block)
    assert path.read_text() == f"# title\n{begin}\nnewer\n{end}\nrest\n"
    with pytest.raises(NpkitError, match="cannot be read: No such file"):
        across_seeds.replace_block(tmp_path / "none.md", "new")


def test_the_command_writes_the_block_or_nothing(npkit_home, tmp_path, capsys):
    judges = ("pickscore", "aesthetic", "heldout", "oracle")
    for seed, gain in ((0, 0.5), (1, 0.7)):
        metrics = {f"ppo_minus_sft/{judge}{end}": gain for judge in judges for end in ("", "_low", "_high")}
        metrics |= {f"{judge}_gain/{variant}": gain * number for judge in judges
                    for number, variant in enumerate(VARIANTS[1:])}
        open_run("evaluation", "tiny", seed).make(lambda folder, metrics=metrics: metrics)
    path = tmp_path / "README.md"
    path.write_text("\n".join(across_seeds.MARKERS))
    before = path.read_text()
    for seeds, words in (("0", "at least two seeds"), ("0 1 2", "seed 2 has not been evaluated: npkit run --seed 2")):
        assert main(["compare", "--seeds", *seeds.split(), "--readme", str(path)]) == 2
        assert words in capsys.readouterr().err
        assert path.read_text() == before
    assert main(["compare", "--seeds", "0", "1", "--readme", str(path)]) == 0
    assert "the table of 2 studies is written" in capsys.readouterr().out
    assert "`npkit compare --seeds 0 1 --readme README.md`" in path.read_text().replace("\n", " ")
    assert main(["compare", "a", "b", "--readme", str(path)]) == 2
