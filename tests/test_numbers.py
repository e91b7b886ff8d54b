"""Numbers: what counts as one where a person writes it, and every place that reads one."""
import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.numbers import read_number, read_whole_number
from npkit.study.profiles import DataConfig, load_profile, parse_setting
from npkit.text import readers
from npkit.text.corpus import cut_prefix

NO_NUMBERS = ["0_1", "1_000", "١٢", "１２", "nan", "inf", "-Infinity", "1e999", "0x10", "1,5", "1 0", "", " ", "- 1",
              "one"]


@pytest.mark.parametrize(("text", "number"), [
    ("3", 3), ("0.25", 0.25), (".5", 0.5), ("5.", 5), (" 1e-5\n", 1e-5), ("-2E+1", -20), ("+0.1", 0.1), ("007", 7)])
def test_numbers_are_read(text, number):
    assert read_number(text) == number
    if text.strip().lstrip("+-").isdigit():
        assert read_whole_number(text) == number and type(read_whole_number(text)) is int


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_python_alone_would_take_is_refused(text):
    for read in (read_number, read_whole_number):
        with pytest.raises(ValueError, match="such as"):
            read(text)


@pytest.mark.parametrize("text", ["1.5", "1e5", "9" * 5000])
def test_whole_numbers_are_whole_and_of_a_size(text):
    with pytest.raises(ValueError):
        read_whole_number(text)


@pytest.mark.parametrize("text", [text for text in NO_NUMBERS if text.strip() and text != "nan"])
def test_no_option_takes_another_spelling(capsys, npkit_home, text):
    for words in (["run", f"--seed={text}"], ["optimize", "a fox", f"--beam={text}"], ["compare", f"--seeds={text}"],
                  ["optimize", "a fox", f"--max-new-tokens={text}"], ["train", "sft", f"--processes={text}"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        output = capsys.readouterr()
        assert stop.value.code == 2 and output.err.count("\n") == 1
        assert f"{text!r} is no whole number, such as 3" in output.err
    assert not npkit_home.exists()


@pytest.mark.parametrize("text", ["0_1", "١", "１", "inf", "0x1", "1e999"])
def test_no_nsfw_score_weight_or_word_count_does_either(tmp_path, text):
    (tmp_path / "p.csv").write_text(f"prompt,prompt_nsfw\na cat,0.1\na fox,{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"line 3 has prompt_nsfw '{text}', which is no score"):
        readers.read_file(str(tmp_path / "p.csv"))
    with pytest.raises(NpkitError, match="names each judge once with a finite weight"):
        load_profile("tiny", {"ppo.reward_weights": f"pickscore:{text}"})
    with pytest.raises(NpkitError, match="data.prefix_rule is first_comma"):
        load_profile("tiny", {"data.prefix_rule": f"words:{text}"})
    with pytest.raises(NpkitError, match="unknown prefix rule"):
        cut_prefix("a cat on a mat", f"words:{text}", None)


def test_scores_are_numbers_as_tables_write_them(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,prompt_nsfw\na cat,1.2e-05\na fox,.9\na hen,1\na pig, 0.1 \n")
    frame = readers.read_file(DataConfig(source=str(tmp_path / "p.csv")).source)
    assert frame["nsfw"].tolist() == [1.2e-05, 0.9, 1, 0.1]


@pytest.mark.parametrize("text", ["1\nx = 2", "1\n[b]"])
def test_a_setting_is_one_value(text):
    with pytest.raises(NpkitError, match="ppo.num_updates takes a whole number, got"):
        parse_setting(f"ppo.num_updates={text}")
