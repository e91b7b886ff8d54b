"""Command line: bad input is one sentence and exit code 2, nothing written; help is instant, its examples work."""
import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from npkit.__main__ import build_parser, main
from npkit.findings.variants import VARIANTS
from npkit.study.artifacts import MAX_SEED, STAGES, open_run
from npkit.study.profiles import parse_settings
from npkit.text.corpus import write_corpus

VERBS = ("run", "train", "status", "optimize", "report", "compare", "cache")


def refuse(capsys, npkit_home, *arguments: str, num_sentences: int = 1) -> str:
    """Run the command, which must exit with 2, say its sentences and write nothing; return what it said."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    assert code == 2, output
    assert output.out == ""
    assert output.err.startswith("npkit: ")
    assert output.err.count("\n") == output.err.count("npkit: ") == num_sentences
    assert not npkit_home.exists()
    return output.err


@pytest.mark.parametrize(("arguments", "words"), [
    ("run --profile tinny", "unknown profile 'tinny'; did you mean 'tiny'?"),
    ("status --profile tinny", "unknown profile 'tinny'"),
    ("run --set ppo.klcoef=0.1", "did you mean 'ppo.kl_coef'?"),
    ("run --set ppo.kl_coef=high", "ppo.kl_coef takes a number, got 'high'"),
    ("run --set ppo.num_updates=1.5", "ppo.num_updates takes a whole number, got 1.5"),
    ("run --set ppo.kl_coef", "a setting is written section.name=value"),
    ("run --seed one", "argument --seed: 'one' is no whole number, such as 3"),
    ("run --seed -1", "seed is a whole number, 0 or more and at most 4294967295, got -1"),
    ("run --seed 4294967296", "seed is a whole number, 0 or more and at most 4294967295, got 4294967296"),
    ("train sft --seed 18446744073709551616", "at most 4294967295, got 18446744073709551616"),
    ("status --seed 99999999999", "at most 4294967295"),
    ("optimize fox --seed 4294967296", "at most 4294967295"),
    ("optimize fox --seed -1", "seed is a whole number, 0 or more"),
    ("run --only 3_ppo", "unknown notebook '3_ppo'; known: 00_glyphworld"),
    ("run --only ,", "argument --only: ',' names nothing"),
    ("run --set runtime.device=tpu", "runtime.device is auto, cpu, cuda or one of several such as cuda:1, got 'tpu'"),
    ("run --set policy.pretrained=~", "is neither a folder with a causal language model nor an id of the hub"),
    ("run --set policy.pretrained=a/b/c", "policy.pretrained 'a/b/c' is neither a folder with a causal language model"),
    ("run --only 04_ppo", "of stages data and sft (profile tiny, seed 0): make them by npkit run --until 02_sft"),
    ("run --chek file", "unrecognized arguments: --chek"),
    ("train evaluation", "invalid choice: 'evaluation'"),
    ("train ppo", "ppo needs the artifacts of stages data and sft"),
    ("train sft --set policy.architecture=rnn", "policy.architecture is one of gpt2, llama, gpt_neox, mamba"),
    ("run --check /no/such/file.json", "cannot read reference metrics from /no/such/file.json"),
    ("run --set data.source=/no/such/prompts.txt", "/no/such/prompts.txt does not exist"),
    ("report no-such-run", "no run 'no-such-run'"),
    ("compare no-such-run another", "no run 'no-such-run'"),
    ("compare tiny-seed0", "compare takes two runs, such as tiny-seed0 tiny-seed1, or --seeds"),
    ("compare tiny-seed0 tiny-seed1 --seeds 0", "compare takes two runs"),
    ("compare --seeds 0 -1", "at most 4294967295, got -1"),
    ("compare tiny-seed0 tiny-seed1 --csv x.csv", "--csv goes with --seeds"),
    ("compare --seeds 3 3", "seed 3 has not been evaluated: begin with npkit run --seed 3"),
    ("compare --seeds 3 4", "none of the seeds 3, 4 has been evaluated: begin with npkit run --seed 3"),
    ("frobnicate", "invalid choice: 'frobnicate'"),
    ("", "the following arguments are required: VERB"),
])
def test_bad_input_is_refused(capsys, npkit_home, arguments, words):
    assert words in refuse(capsys, npkit_home, *arguments.split())


@pytest.mark.parametrize(("name", "content", "words"), [
    ("empty.txt", b"", "is empty"),
    ("blank.txt", b"\n \n\n", "0 prompt(s) after cleaning"),
    ("one.txt", b"a cat, oil painting\n", "1 distinct prefix(es) cannot be split"),
    ("few.txt", b"".join(b"subject %d, oil painting\n" % number for number in range(50)), "evaluation.num_prefixes"),
    ("column.csv", b"text\na cat\n", "no column 'prompt'; columns found: text"),
    ("broken.jsonl", b"{not json\n", "cannot be read as .jsonl"),
    ("binary.parquet", b"\x00\x01", "cannot be read as .parquet"),
    ("prompts.docx", b"a cat", "use a file ending in .jsonl"),
])
def test_bad_corpus_is_refused(capsys, npkit_home, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    num_sentences = 4 if name == "few.txt" else 1  # too few for PPO, for 04 and for the test; clauses that do not fit
    assert words in refuse(capsys, npkit_home, "run", "--set", f"data.source={tmp_path / name}",
                           num_sentences=num_sentences)


def test_missing_input_repeats_the_corpus_as_an_absolute_path(capsys, npkit_home, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("a cat\n")
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "mine.txt") in refuse(
        capsys, npkit_home, "run", "--only", "sft", "--set", "data.source=mine.txt")


def test_dry_run_says_what_would_run_and_writes_nothing(capsys, npkit_home):
    assert main(["run", "--dry-run", "--until", "02_sft"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["00_glyphworld", "run"], ["01_data_and_prefixes", "run"], ["02_sft", "run"], []]
    assert lines[4] == "corpus npkit.glyphworld.corpus:generate"
    assert not npkit_home.exists()
    assert main(["run", "--dry-run", "--only", "00_glyphworld"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


ACCOUNT = """corpus {source} (UTF-8)
rows read             46
kept                  40
dropped                6  (2 duplicate, 1 empty, 3 nsfw)
split sft             26  prompts of 13 different prefixes
split ppo              2  prompts of 1 different prefixes
split validation       2  prompts of 1 different prefixes
split test            10  prompts of 5 different prefixes
"""


def test_dry_run_says_what_the_corpus_holds_before_and_after_it_is_prepared(capsys, npkit_home, tmp_path):
    rows = [f'"a {number % 20} cat, {number} oils",0.1' for number in range(40)]
    rows += ['"A 1 cat, 1 oils",', '"a 1 cat 1 OILS",', ",0.1", *(f'"a bad {number}",0.9' for number in range(3))]
    (tmp_path / "p.csv").write_text("\n".join(["prompt,prompt_nsfw", *rows]))
    options = ["--set", f"data.source={tmp_path / 'p.csv'}"]
    dry_run = ["run", "--dry-run", "--until", "01_data_and_prefixes", *options]
    assert main(dry_run) == 0
    first = capsys.readouterr().out
    assert first.partition("\n\n")[2] == ACCOUNT.format(source=tmp_path / "p.csv")
    run = open_run("data", "tiny", 0, parse_settings(options[1::2]))
    run.make(lambda folder: write_corpus(run.config.data, 0, folder))
    assert main(dry_run) == 0
    assert capsys.readouterr().out == first  # no executed copy yet: still to run
    assert main(["train", "sft", "--dry-run", *options]) == 0
    head, _, rest = capsys.readouterr().out.partition("\n\n")
    assert head.split()[:2] == ["02_sft", "run"] and f"{rest}" == ACCOUNT.format(source=tmp_path / "p.csv")
    assert not open_run("sft", "tiny", 0, parse_settings(options[1::2])).folder.parent.exists()


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"profile": "tiny", "seed": 0, "settings": [1]}', "\x00é"])
def test_a_damaged_run_is_told(capsys, npkit_home, content):
    (npkit_home / "runs" / "mine").mkdir(parents=True)
    (npkit_home / "runs" / "mine" / "run.json").write_bytes(content.encode("latin-1"))
    for words in (["report", "mine"], ["compare", "mine", "mine"]):
        assert main(words) == 2
        assert "run.json is damaged" in capsys.readouterr().err


def test_every_wrong_setting_is_told(capsys, npkit_home):
    wrong = ["ppo.klcoef=1", "ppo.kl_coef=high", "data.source=/no/such.txt", "neurologic.keywords=/nor/this.toml"]
    assert main(["run", *(word for setting in wrong for word in ("--set", setting))]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [next(word for word in ("klcoef", "high", "/no/such.txt", "/nor/this.toml") if word in line)
            for line in told] == ["klcoef", "high", "/no/such.txt", "/nor/this.toml"]
    wrong = ["ppo.num_updates=0", "sft.precision=half", "ppo.final_policy=first", "policy.architecture=rnn"]
    assert main(["run", *(word for setting in wrong for word in ("--set", setting))]) == 2
    told = capsys.readouterr().err
    assert told.count("\nnpkit: ") == 3 and all(setting.partition("=")[0] in told for setting in wrong)


def test_status_says_what_is_there_and_what_is_next(capsys, npkit_home):
    assert main(["status", "--seed", "2"]) == 0
    output = capsys.readouterr().out
    assert "torch" in output
    assert "\nnext: npkit run --seed 2\n      (makes glyphworld, data, sft, reward, ppo, neurologic," in output
    assert not npkit_home.exists()
    for stage in ("glyphworld", "data"):
        open_run(stage, "tiny", 2).make(lambda folder: {"num_prompts": 5})
    assert main(["status", "--seed", "2"]) == 0
    output = capsys.readouterr().out
    assert "num_prompts 5" in output
    assert "0 min ago" in output
    makes = "(makes sft, reward, ppo, neurologic, evaluation, ablations, explorer, preference,"
    assert f"\nnext: npkit run --seed 2\n      {makes}" in output


def test_status_and_optimize_name_the_same_command(capsys, npkit_home):
    assert main(["status", "--set", "ppo.kl_coef=0.3"]) == 0
    command = capsys.readouterr().out.partition("\nnext: ")[2].splitlines()[0]
    assert command == "npkit run --until 04_ppo --set ppo.kl_coef=0.3"
    assert main(["optimize", "a fox", "--set", "ppo.kl_coef=0.3"]) == 2
    assert f"make it by {command}, or name a folder" in capsys.readouterr().err
    for stage in ("glyphworld", "data", "sft", "reward", "ppo"):
        open_run(stage, "tiny").make(lambda folder: {"number": 1})
    assert main(["status"]) == 0
    output = capsys.readouterr().out
    makes = "(makes neurologic, evaluation, ablations, explorer, preference, and the result table)"
    assert f"\nnext: npkit run\n      {makes}\n" in output


def test_compare_shows_the_metrics_of_two_runs(capsys, npkit_home):
    for seed, score in ((0, 1.5), (1, 2.0)):
        open_run("data", "tiny", seed).make(lambda folder, score=score: {"score": score})
        folder = npkit_home / "runs" / f"tiny-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(f'{{"profile": "tiny", "seed": {seed}, "settings": {{}}}}')
    assert main(["compare", "tiny-seed0", "tiny-seed1", "--only", "data"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["tiny-seed0", "tiny-seed1", "difference", "tolerance", "verdict"], ["stage", "metric"],
                    ["data", "score", "1.5", "2", "+0.5", "-", "not", "comparable"]]
    assert main(["report", "tiny-seed0"]) == 0
    assert (npkit_home / "runs" / "tiny-seed0" / "index.html").exists()


def test_compare_reports_what_seeds_have_in_common(capsys, npkit_home, tmp_path):
    judges = ("pickscore", "aesthetic", "heldout", "oracle")
    for seed, gain in ((0, 0.5), (1, 0.7), (2, 0.9)):
        metrics = {f"ppo_minus_sft/{judge}{end}": gain + shift for judge in judges
                   for end, shift in (("", 0.0), ("_low", -0.1), ("_high", 0.1))}
        metrics |= {f"{judge}_gain/{variant}": 2 * gain for judge in judges for variant in VARIANTS[1:]}
        open_run("evaluation", "tiny", seed, {"ppo.kl_coef": 0.3}).make(lambda folder, metrics=metrics: metrics)
    options = ["--set", "ppo.kl_coef=0.3", "--csv", str(tmp_path / "seeds.csv")]
    assert main(["compare", "--seeds", "0", "1", "2", "4", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    # t(0.975, 2) = 4.303; standard deviation 0.2, of the doubled gains 0.4: 4.303 * 0.2 / sqrt(3) = 0.497
    rows = [line.split() for line in lines]
    assert ["ppo+nl", *["+1.40", "[0.41,", "2.39]"] * 4] in rows
    assert ["0", *["+0.50", "[0.40,", "0.60]"] * 4] in rows
    assert ["mean", *["+0.70", "[0.20,", "1.20]"] * 4] in rows
    assert "seed 4 is not there yet: npkit run --seed 4 --set ppo.kl_coef=0.3" in lines
    assert "3 of 4 training seeds" in lines[-1]
    written = pd.read_csv(tmp_path / "seeds.csv")
    assert list(written.columns) == ["seed", "judge", "difference", "low", "high"]
    assert len(written) == 12
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "folder", tmp_path / "nowhere" / "seeds.csv", "/dev/full", ""):
        assert main(["compare", "--seeds", "0", "1", "--set", "ppo.kl_coef=0.3", "--csv", str(target)]) == 2
        said = capsys.readouterr()
        assert "of 2 training seeds" in said.out  # the tables come all the same
        assert "cannot be written" in said.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_every_generator_takes_the_largest_seed(tmp_path):
    from transformers import set_seed

    from npkit.findings.evaluation import picture_seeds
    from npkit.study.profiles import DataConfig
    from npkit.text.corpus import prepare
    (tmp_path / "prompts.txt").write_text("".join(f"a cat {number}, oil painting\n" for number in range(40)))
    assert open_run("data", "tiny", MAX_SEED).seed == MAX_SEED
    set_seed(MAX_SEED)  # Python's, numpy's and torch's, as every trainer sets them
    torch.Generator().manual_seed(max(picture_seeds(MAX_SEED, 100)))
    prompts, _ = prepare(DataConfig(source=str(tmp_path / "prompts.txt"), num_prompts=30), MAX_SEED)
    assert len(prompts) == 30


def test_printed_commands_can_be_pasted(capsys, npkit_home, tmp_path):
    corpus = tmp_path / "my prompts; and 'more'.txt"
    corpus.write_text("a cat\n")
    settings = [f"data.source={corpus}", "neurologic.living_artists=false", "ppo.kl_coef=1e-05", "sft.num_epochs=2"]
    assert main(["status", "--seed", "3", *(word for setting in settings for word in ("--set", setting))]) == 0
    command = capsys.readouterr().out.partition("next: npkit ")[2].splitlines()[0]
    args = build_parser().parse_args(shlex.split(command))
    assert (args.verb, args.seed, parse_settings(args.settings)) == ("run", 3, parse_settings(settings))


def test_the_table_keeps_the_blanks_it_begins_with(capsys, monkeypatch, tmp_path):
    from npkit.study import report, runner
    monkeypatch.setattr(runner, "plan", lambda *arguments: SimpleNamespace(runs=[None], folder=tmp_path))
    monkeypatch.setattr(runner, "run_study", lambda *arguments: None)
    monkeypatch.setattr(report, "write_report", lambda folder, ablations: folder / "index.html")
    monkeypatch.setattr(report, "result_table", lambda run: "       pickscore\nprefix         -")
    assert main(["run"]) == 0
    assert capsys.readouterr().out == f"       pickscore\nprefix         -\n\n{tmp_path / 'index.html'}\n"
    monkeypatch.setattr(report, "result_table", lambda run: "")
    assert main(["run"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}\n"


def test_a_closed_pipe_ends_quietly():
    command = f"{shlex.quote(sys.executable)} -m npkit status | true; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("141\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_standard_output_is_a_sentence():
    command = f"{shlex.quote(sys.executable)} -m npkit status > /dev/full"
    found = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == "npkit: what was to be printed cannot be written: No space left on device\n"


def test_an_error_of_the_network_is_not_taken_for_one_of_standard_output(monkeypatch):
    def fail(args):
        raise ConnectionError("the hub does not answer")

    monkeypatch.setattr("npkit.commands.status.run", fail)
    with pytest.raises(ConnectionError, match="the hub does not answer"):
        main(["status"])


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_parses(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    example = capsys.readouterr().out.partition("example: npkit ")[2]
    args = build_parser().parse_args(shlex.split(example))
    assert args.verb == verb
    assert not [name for name in ("clear", "fresh", "refresh") if getattr(args, name, False)], "an example is harmless"


def test_help_and_package_import_nothing_heavy():
    code = ("import sys, npkit.__main__ as cli; cli.build_parser(); import npkit.study.artifacts; "
            "print(*{'torch', 'transformers', 'pandas', 'papermill', 'matplotlib'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_module_and_exit_code_from_the_shell():
    found = subprocess.run([sys.executable, "-m", "npkit", "run", "--profile", "tinny"], capture_output=True, text=True,
                           check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("npkit: unknown profile")


def test_every_notebook_exists():
    from npkit.study.runner import NOTEBOOKS
    assert {stage.notebook for stage in STAGES.values()} <= {path.stem for path in NOTEBOOKS.glob("*.ipynb")}


@pytest.mark.parametrize(("before", "after"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_how_threads_wait_is_decided_before_torch_is_there(before, after):
    variables = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | before
    code = "import os, sys, npkit.__main__; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True)
    assert found.stdout.split() == [after, "False"]
