"""Readers: files of prompts as people have them, each read as it was meant or refused in one sentence."""
import gzip
import io
import json
import os

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.study.profiles import DataConfig
from npkit.text import corpus, readers

PROMPTS = [f"a {animal} by the sea, {style}, soft light" for animal in ("heron", "crab", "seal", "gull", "otter", "eel")
           for style in ("woodcut", "gouache")]
CAFES = [f"café {number}, œuvre “{number}”, 柔らか" for number in range(6)]


# 1. Files ------------------------------------------------------------------------------------------------------------
def lines(rows, end: str = "\n", encoding: str = "utf-8") -> bytes:
    return "".join(f"{row}{end}" for row in rows).encode(encoding)


def jsonl(values, **more) -> bytes:
    return lines(json.dumps({"prompt": value, **more}, ensure_ascii=False) for value in values)


def table(values, kind=None, **more) -> bytes:
    """Return a parquet file; `kind` is the arrow type of the prompts."""
    file = io.BytesIO()
    parquet.write_table(pa.table({"prompt": pa.array(values, type=kind), **more}), file)
    return file.getvalue()


def quoted(rows) -> list[str]:
    return [f'"{row}"' for row in rows]


def scored(*scores: str) -> bytes:
    return lines(["prompt,prompt_nsfw", *(f'"a {number} cat, oil",{score}' for number, score in enumerate(scores))])


CATS = [f"a {number} cat, oil" for number in range(12)]
EMOJI = ["🔥 heron, oil", "🧊 heron, oil", "heron 🐉, oil", "heron, oil", "👩‍🚀, oil", "👩🚀, oil"]
HINDI = ["काला घर, तेल", "कोला घर, तेल", "कीला घर, तेल", "किला घर, तेल", "कुला घर, तेल"]
PERSIAN = [f"خانه‌های {word}, نقاشی" for word in ("قدیمی", "سفید", "بزرگ", "کوچک", "سبز")]
THAI = ["กา บิน, สีน้ำมัน", "กำ บิน, สีน้ำมัน", "กี บิน, สีน้ำมัน", "กู บิน, สีน้ำมัน", "ก่า บิน, สีน้ำมัน"]
DOLLARS = [f"Ca$$h for {number}$ x_{{{number}}}^2 \\frac{{1 , oil" for number in range(5)]
SIGNS = ["a c poster, oil", "a c++ poster, oil", "a c# poster, oil", "a c% poster, oil", "a c& poster, oil"]
CHAT = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
SYMBOLS = [f"猫 {char}、油絵" for char in "\ue000\uf8ff\U000f0000"] + ["犬、墨"]  # private use: icons of a font
PRETTY = json.dumps([{"prompt": prompt} for prompt in PROMPTS], indent=2)

READ = {  # name -> content, the prompts that must come out, and the reasons for which rows are dropped
    # like the inputs that users sent
    "mark.jsonl": (b"\xef\xbb\xbf" + jsonl(PROMPTS), PROMPTS, {}),
    "array.jsonl": (json.dumps([{"prompt": prompt} for prompt in PROMPTS]).encode(), PROMPTS, {}),
    "na.csv": (scored("NA", "0.1", "None", "", "nan", "0.9"), CATS[:5], {"nsfw": 1}),
    "categorical_null.parquet": (table([*PROMPTS, None], pa.dictionary(pa.int8(), pa.string())), PROMPTS, {"empty": 1}),
    "nullable.parquet": (table([None, *PROMPTS], pa.large_string()), PROMPTS, {"empty": 1}),
    "hindi.txt": (lines(HINDI), HINDI, {}),
    "emoji.txt": (lines(EMOJI), EMOJI, {}),
    "persian.txt": (lines(PERSIAN), PERSIAN, {}),
    "dollars.txt": (lines(DOLLARS), DOLLARS, {}),
    "no_comma.txt": (lines(CATS[number][:-5] for number in range(6)), [cat[:-5] for cat in CATS[:6]], {}),
    "german.txt": (lines(f"Füchse {number}, Ölgemälde" for number in range(5)),
                   [f"Füchse {number}, Ölgemälde" for number in range(5)], {}),
    "one_column.csv": (lines(["prompt", *PROMPTS]), PROMPTS, {}),
    # encodings
    "mark.csv": (b"\xef\xbb\xbf" + lines(["prompt,seed", *(f'"{prompt}",1' for prompt in PROMPTS)]), PROMPTS, {}),
    "mark.txt": (b"\xef\xbb\xbf" + lines(PROMPTS), PROMPTS, {}),
    "two_marks.csv": (b"\xef\xbb\xbf\xef\xbb\xbf" + lines(["prompt", *quoted(PROMPTS)]), PROMPTS, {}),
    "joined_marks.jsonl": (b"\xef\xbb\xbf" + jsonl(PROMPTS[:6]) + b"\xef\xbb\xbf" + jsonl(PROMPTS[6:]), PROMPTS, {}),
    "utf16.txt": (lines(CAFES, encoding="utf-16-le"), CAFES, {}),
    "utf16be.txt": (lines(CAFES, encoding="utf-16-be"), CAFES, {}),
    "utf16_mark.txt": ("\n".join(CAFES).encode("utf-16"), CAFES, {}),
    "utf16_hindi.txt": (lines(HINDI, encoding="utf-16-le"), HINDI, {}),
    "utf16_chinese.txt": (lines([f"一只猫{char}，油画，柔和的光" for char in "红白黑大小"], encoding="utf-16-le"),
                          [f"一只猫{char}，油画，柔和的光" for char in "红白黑大小"], {}),
    "utf16_symbols.txt": (lines(SYMBOLS, encoding="utf-16-le"), SYMBOLS, {}),
    "utf16_symbols_be.txt": (lines([f"{cat}\uf8ff" for cat in CATS], "\r\n", "utf-16-be"),
                             [f"{cat}\uf8ff" for cat in CATS], {}),
    "utf16_symbols.jsonl": (jsonl(SYMBOLS).decode().encode("utf-16-be"), SYMBOLS, {}),
    "utf16.csv": ("".join(f"{row}\r\n" for row in ["prompt", *quoted(CAFES)]).encode("utf-16"), CAFES, {}),
    "utf16.jsonl": (jsonl(CAFES).decode().encode("utf-16-be"), CAFES, {}),
    "utf32.txt": ("\n".join(CAFES).encode("utf-32"), CAFES, {}),
    "decomposed.txt": (lines(["rene\u0301 1, oil", *CAFES]), ["ren\u00e9 1, oil", *CAFES], {}),
    # line ends, empty lines, invisible characters
    "windows.txt": (lines(PROMPTS, "\r\n"), PROMPTS, {}),
    "windows.jsonl": (jsonl(PROMPTS).replace(b"\n", b"\r\n"), PROMPTS, {}),
    "old_mac.txt": (lines(PROMPTS, "\r"), PROMPTS, {}),
    "empty_lines.txt": (lines(PROMPTS, "\n\n"), PROMPTS, {"empty": len(PROMPTS)}),
    "empty_lines.jsonl": (b"\n" + jsonl(PROMPTS) + b"\n\n", PROMPTS, {}),
    "empty_lines.csv": (lines(["", "prompt,seed", *(f'"{prompt}",1\n' for prompt in PROMPTS)]), PROMPTS, {}),
    "separators.txt": (lines(f"{prompt[:5]}\u2028{prompt[5:]}\x0b\x85" for prompt in PROMPTS),
                       [f"{prompt[:5]} {prompt[5:]}".replace("  ", " ") for prompt in PROMPTS], {}),
    "nul.txt": (lines(f"{prompt}\0" for prompt in PROMPTS), PROMPTS, {}),
    "nul.csv": (lines(["prompt,seed", *(f'"{prompt}\0",1' for prompt in PROMPTS)]), PROMPTS, {}),
    "nul.jsonl": (jsonl(PROMPTS).replace(b"light", b"light\0\t"), PROMPTS, {}),
    "zero_width.txt": (lines(f"\u200e{prompt}\u200b" for prompt in PROMPTS), PROMPTS, {}),
    "half_emoji.jsonl": (jsonl(PROMPTS).replace(b"light", b"light\\ud83d"), PROMPTS, {}),
    # tables
    "header_line_break.csv": (lines(['"the\nseed", "prompt\n"', *(f'1,"{prompt}"' for prompt in PROMPTS)]), PROMPTS,
                              {}),
    "header_line_breaks.csv": (lines(['"my;\r\nid";prompt', *(f"1;{prompt}" for prompt in PROMPTS)]), PROMPTS, {}),
    "quoted_header_mark.csv": (b"\xef\xbb\xbf" * 2 + lines(['"prompt","seed"', *(f'"{prompt}",1' for prompt in PROMPTS)]
                                                             ), PROMPTS, {}),
    "blanks.csv": (lines(["  ", "prompt,seed", "\t", *(f'"{prompt}",1\n ' for prompt in PROMPTS)]), PROMPTS, {}),
    "semicolons.csv": (lines(["prompt;seed", *(f"{prompt};1" for prompt in PROMPTS)]), PROMPTS, {}),
    "tabs.csv": (lines(["seed\tprompt", *(f"1\t{prompt}" for prompt in PROMPTS)]), PROMPTS, {}),
    "header_spaces.csv": (lines(["seed, prompt ", *(f'1,"{prompt}"' for prompt in PROMPTS)]), PROMPTS, {}),
    "unnamed_index.csv": (pd.DataFrame({"prompt": PROMPTS}).to_csv().encode(), PROMPTS, {}),
    "doubled_quotes.csv": (lines(["prompt", *(f'"a ""{number}"" cat, oil"' for number in range(5))]),
                           [f'a "{number}" cat, oil' for number in range(5)], {}),
    "bare_quotes.csv": (lines(["prompt", *(f'a "{number}" cat, "oil", ink' for number in range(5))]),
                        [f'a "{number}" cat, "oil", ink' for number in range(5)], {}),
    "line_ends.csv": (lines(["prompt,seed", *(f'"a {number}\ncat, oil",1' for number in range(5))]), CATS[:5], {}),
    "words.csv": (lines(["prompt", "null", "NA", "1984", "nan", "None", "true"]),
                  ["null", "NA", "1984", "nan", "None", "true"], {}),
    "flags.csv": (scored("False", "true", "FALSE", "false", "", "2.0"), [CATS[n] for n in (0, 2, 3, 4)], {"nsfw": 2}),
    "scores.jsonl": (lines(json.dumps({"prompt": cat, "prompt_nsfw": score})
                           for cat, score in zip(CATS, (None, 0.1, "0.2", "", False, True))), CATS[:5], {"nsfw": 1}),
    "flagged_once.csv": (scored("0.1", "0.1", "0.1", "0.1", "") + b'"A 1 CAT, oil!",0.8\n',
                         [CATS[n] for n in (0, 2, 3, 4)], {"nsfw": 2}),
    "image_scores.parquet": (table(CATS[:6], image_nsfw=[0.0, 2.0, None, 0.1, 0.2, 0.6]),
                             [CATS[n] for n in (0, 2, 3, 4)], {"nsfw": 2}),
    "dictionary.parquet": (table([*PROMPTS, None, *PROMPTS[:2]], pa.dictionary(pa.int32(), pa.large_string())), PROMPTS,
                           {"duplicate": 2, "empty": 1}),
    "views.parquet": (table(PROMPTS, pa.string_view()), PROMPTS, {}),
    "index.parquet": (pd.DataFrame({"seed": 1}, index=pd.Index(PROMPTS, name="prompt")).to_parquet(), PROMPTS, {}),
    "pretty_array.jsonl": (PRETTY.encode(), PROMPTS, {}),
    "other_keys.jsonl": (jsonl(PROMPTS, seed=1, tags=["a"]) + b'{"prompt": null}\n{"seed": 2}\n', PROMPTS,
                         {"empty": 2}),
    "signs.txt": (lines(SIGNS), SIGNS, {}),
    "thai.txt": (lines(THAI), THAI, {}),
    "capitals.TXT": (lines(PROMPTS), PROMPTS, {}),
    # one bad line of many costs one line
    "one_broken.jsonl": (jsonl(f"cat {n}, oil" for n in range(150)) + b'{"prompt": "cut off',
                         [f"cat {n}, oil" for n in range(150)], {"unreadable": 1}),
    "one_twice.jsonl": (jsonl(f"cat {n}, oil" for n in range(150)) + b'{"prompt": "a dog", "prompt": "a fox"}\n',
                        [f"cat {n}, oil" for n in range(150)], {"unreadable": 1}),
    "twice_unused.jsonl": (lines(f'{{"prompt": "{prompt}", "seed": 1, "seed": 2, "x": {{"prompt": 1, "prompt": 2}}}}'
                                 for prompt in PROMPTS), PROMPTS, {}),
    "one_number.jsonl": (jsonl([*(f"cat {n}, oil" for n in range(150)), 8]), [f"cat {n}, oil" for n in range(150)],
                         {"unreadable": 1}),
    "one_latin.txt": (lines(f"cat {n}, oil" for n in range(150)) + b"caf\xe9, oil\n",
                      [f"cat {n}, oil" for n in range(150)], {"unreadable": 1}),
}
REFUSED = {  # name -> content and what the sentence says
    # like the inputs that users sent
    "chat.jsonl": (jsonl(CHAT), "line 1 has a prompt that is a list of chat turns, not text: [{'role'"),
    "labels.csv": (scored("0.1", "UNLIKELY"), "line 3 has prompt_nsfw 'UNLIKELY', which is no score"),
    "bytes.parquet": (table([prompt.encode() for prompt in PROMPTS]), "row 1 has a prompt that is bytes, not text"),
    "lists.parquet": (table([[prompt] for prompt in PROMPTS]), "row 1 has a prompt that is a list, not text"),
    "trailing_comma.csv": (lines(["prompt,seed", *(f'"{prompt}",1,' for prompt in PROMPTS)]),
                           "line 2 has 3 fields, the header has 2 (prompt, seed)"),
    "styles.csv": (lines(["name,prompt,avoid", "first,\"a cat, oil\",fog", *(f"x,{prompt},fog" for prompt in PROMPTS)]),
                   "line 3 has 5 fields, the header has 3 (name, prompt, avoid): put each prompt in double quotes"),
    # encodings
    "latin.csv": (lines(["prompt", *(f"café {number}, oil" for number in range(5))], encoding="latin-1"),
                  "line 2 is not UTF-8 (byte 0xe9 behind 'caf'): save the file as UTF-8"),
    "windows1252.txt": (lines([f"“cat” {number}, oil" for number in range(5)], encoding="cp1252"),
                        "line 1 is not UTF-8 (byte 0x93"),
    "latin.jsonl": (jsonl(["café"] * 5).decode().encode("latin-1"), "line 1 is not UTF-8"),
    "archive.jsonl": (gzip.compress(jsonl(PROMPTS)), "(byte 0x8b behind '\\x1f'): save the file as UTF-8; as it has"),
    "picture.csv": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xfe" * 9, "line 1 is not UTF-8"),
    "utf16_one_line.txt": ("猫\ue000、油".encode("utf-16-le"), "it is UTF-16 without a byte-order mark, or no text"),
    "gbk.txt": (lines(["猫，油画"] * 5, encoding="gbk"), "from the encoding it has (iconv -f WINDOWS-1252 -t UTF-8 if"),
    "shift_jis.txt": (lines(["猫、油絵"] * 5, encoding="shift-jis"), "line 1 is not UTF-8"),
    "cut.txt": ("\n".join(CAFES).encode("utf-16")[:-1], "truncated data"),
    "utf32.txt": ("a cat, oil\na fox, ink\n".encode("utf-32-le"), "too many of its bytes are 0"),
    "utf16_nul.txt": ("a cat, oil\0\na fox, ink\n".encode("utf-16-le"), "too many of its bytes are 0"),
    "utf16_cut.txt": ("кошка, масло\nсобака, тушь\n".encode("utf-16-le")[:-1], "too many of its bytes are 0"),
    "picture.txt": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xfe" * 9, "is not UTF-8"),
    # CSV
    "bare_commas.csv": (lines(["prompt,seed", *(f"{prompt},1" for prompt in PROMPTS)]), "line 2 has 4 fields"),
    "bare_line_ends.csv": (lines(["prompt,seed", "a cat", "in oil,1", '"a dog, ink",2']), "line 2 has 1 field,"),
    "single_quotes.csv": (lines(["prompt,seed", *(f"'{prompt}',1" for prompt in PROMPTS)]), "line 2 has 4 fields"),
    "single_quotes_alone.csv": (lines(["prompt", *(f"'{prompt}'" for prompt in PROMPTS)]), "line 2: the prompts are"),
    "backslashes.csv": (lines(["prompt,seed", '"a cat, oil",1', '"a \\"big\\" cat, oil",1']), "line 3 is no CSV"),
    "backslash_commas.csv": (lines(["prompt,seed", "a cat\\, oil,1"]), "line 2 has 3 fields"),
    "open_quote.csv": (lines(["prompt,seed", '"a cat, oil",1', '"a dog, oil,1', '"a fox, oil",1']), "line 3 is no CSV"),
    "open_header.csv": (b'"prompt,seed\na cat,1\na dog,2\n', "line 1 is no CSV (unexpected end of data)"),
    "never_closed.csv": (lines(["prompt", '"a cat, oil"', '"a dog, oil', "a fox, oil"]), "line 3 is no CSV"),
    "swallowed.csv": (lines(["prompt", 'a cat,"oil', 'a dog, ink"']), "line 2 has 2 fields, the header has 1"),
    "huge.csv": (lines(["prompt,seed", '"' + "a cat, oil\n" * 20_000 + '",1']), "0 prompt(s) after cleaning"),
    "twice.csv": (lines(["prompt,prompt", "a,b"]), "it has 2 columns 'prompt': keep one"),
    "caption.csv": (lines(["caption,seed", "a,1"]), "it has no column 'prompt'; columns found: caption, seed"),
    "no_header.csv": (lines([PROMPTS[0] * 20, *PROMPTS]), "it has no column 'prompt'; columns found: a heron by the"),
    "empty.csv": (b"\n\n", "it is empty"),
    "header_alone.csv": (b"prompt\n", "it is empty"),
    # scores
    "percent.csv": (scored("90 %"), "line 2 has prompt_nsfw '90 %', which is no score"),
    "underscore.csv": (scored("0.1", "0_1"), "line 3 has prompt_nsfw '0_1', which is no score"),
    "comma.csv": (scored("0.1", '"0,9"'), "line 3 has prompt_nsfw '0,9', which is no score"),
    "hundred.csv": (scored("0.1", "0.2", "90"), "line 4 has prompt_nsfw '90', which is no score"),
    "negative.csv": (scored("-1"), "line 2 has prompt_nsfw '-1', which is no score"),
    "infinite.csv": (scored("inf"), "line 2 has prompt_nsfw 'inf', which is no score"),
    "score_list.jsonl": (jsonl(PROMPTS, image_nsfw=[0.1]), "line 1 has image_nsfw [0.1], which is no score"),
    # JSON Lines
    "not_json.jsonl": (lines(PROMPTS), "line 1 is no JSON: 'a heron by the sea"),
    "strings.jsonl": (lines(json.dumps(prompt) for prompt in PROMPTS), 'line 1 is no object such as {"prompt"'),
    "string_array.jsonl": (json.dumps(PROMPTS).encode(), "line 1 is no object such as"),
    "cut_array.jsonl": (PRETTY.encode()[:-10], "line 1 is no JSON: '['"),
    "long_cut_array.jsonl": (json.dumps([{"prompt": prompt} for prompt in PROMPTS * 200]).encode()[:-2],
                             "line 1 is no JSON: '[{"),
    "pretty.jsonl": (json.dumps({"prompt": PROMPTS[0]}, indent=1).encode(), "line 1 is no JSON: '{'"),
    "columns.jsonl": (json.dumps({"prompt": PROMPTS}).encode(), "line 1 has a prompt that is a list, not text"),
    "objects.jsonl": (jsonl([{"text": "a cat"}] * 5), "line 1 has a prompt that is an object, not text"),
    "numbers.jsonl": (jsonl([3, "a cat"]), "line 1 has a prompt that is a number, not text: 3"),
    "booleans.jsonl": (jsonl(["a cat", True]), "line 2 has a prompt that is true or false, not text"),
    "deep.jsonl": (b"[" * 100_000, "line 1 is no JSON"),
    "captions.jsonl": (lines(['{"Prompt": "a cat"}'] * 5), "it has no column 'prompt'; columns found: Prompt"),
    "empty_array.jsonl": (b"[]", "it is empty"),
    "twice.jsonl": (b'{"prompt": "a cat", "prompt": "a dog"}\n' * 5, "line 1 has the key 'prompt' twice: keep one"),
    "scores_twice.jsonl": (b'{"prompt": "a cat", "prompt_nsfw": 0.1, "prompt_nsfw": 0.9}\n',
                           "has the key 'prompt_nsfw' twice"),
    "twice_in_array.jsonl": (b'[{"prompt": "a cat"}, {"prompt": "a dog", "prompt": "a fox"}]',
                             "row 2 has the key 'prompt' twice: keep one"),
    # parquet
    "numbers.parquet": (table([1, 2, 3]), "row 1 has a prompt that is a number, not text: 1"),
    "structs.parquet": (table([{"text": "a cat"}]), "row 1 has a prompt that is an object, not text"),
    "nulls.parquet": (table([None] * 5, pa.null()), "0 prompt(s) after cleaning"),
    "chat.parquet": (table(CHAT), "row 1 has a prompt that is a list of chat turns, not text"),
    "invalid.parquet": (table([b"caf\xe9"], pa.binary()).replace(b"caf\xe9", b"caf\xe9"), "is bytes, not text"),
    "labels.parquet": (table(["a cat"], prompt_nsfw=["SAFE"]), "row 1 has prompt_nsfw 'SAFE', which is no score"),
    "twice.parquet": (b"PAR1not a parquet file", "cannot be read as .parquet"),
    "text.parquet": (lines(PROMPTS), "cannot be read as .parquet"),
}


def test_there_are_files_enough():
    assert len(READ) + len(REFUSED) >= 58


@pytest.mark.parametrize("name", READ)
def test_read_right(tmp_path, name):
    content, prompts, dropped = READ[name]
    (tmp_path / name).write_bytes(content)
    config = DataConfig(source=str(tmp_path / name))
    kept, report = corpus.clean(corpus.read_prompts(config, seed=0), config)
    assert kept == prompts
    assert {reason: entry["count"] for reason, entry in report["dropped"].items()} == dropped
    assert corpus.prepare(config, seed=0)[0]["prompt"] == prompts, "what can be read can be split"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NpkitError) as error:
        corpus.prepare(DataConfig(source=str(tmp_path / name)), seed=0)
    sentence = str(error.value)
    assert message in sentence and name in sentence
    assert "\n" not in sentence and len(sentence.replace(str(tmp_path), "")) < 360


@pytest.mark.parametrize("name", ["trailing_comma.csv", "chat.jsonl", "latin.csv"])
def test_the_command_line_refuses_with_code_2(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(REFUSED[name][0])
    source = f"data.source={tmp_path / name}"
    assert main(["run", "--dry-run", "--only", "01_data_and_prefixes", "--set", source]) == 2
    told = capsys.readouterr().err
    assert REFUSED[name][1] in told and told.count("\n") == 1


# 2. Accounts ---------------------------------------------------------------------------------------------------------
def test_the_report_says_encoding_and_what_was_lost(tmp_path, capsys):
    (tmp_path / "p.jsonl").write_bytes(READ["one_broken.jsonl"][0])
    source = str(tmp_path / "p.jsonl")
    _, report = corpus.prepare(DataConfig(source=source), seed=0)
    assert report["encoding"] == "UTF-8"
    assert report["dropped"]["unreadable"]["examples"] == ["line 151 is no JSON: '{\"prompt\": \"cut off'"]
    assert main(["run", "--dry-run", "--only", "01_data_and_prefixes", "--set", f"data.source={source}"]) == 0
    assert "1 of 151 rows cannot be used and are left out: line 151 is no JSON" in capsys.readouterr().err


@pytest.mark.parametrize("name, encoding", [
    ("utf16.txt", "UTF-16-LE"), ("utf16be.txt", "UTF-16-BE"), ("utf16_mark.txt", "UTF-16"), ("utf32.txt", "UTF-32"),
    ("nul.txt", "UTF-8"), ("mark.csv", "UTF-8"), ("views.parquet", "parquet")])
def test_encodings_are_told(tmp_path, name, encoding):
    (tmp_path / name).write_bytes(READ[name][0])
    assert readers.READERS[(tmp_path / name).suffix](tmp_path / name).attrs["encoding"] == encoding


def test_two_bad_lines_of_a_hundred_are_too_many(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(jsonl(CATS * 9)[:-5] + b"\n{\n")
    with pytest.raises(NpkitError, match=r"line 108 is no JSON: .* \(2 of 109 lines cannot be used\)"):
        readers.read_file(str(tmp_path / "p.jsonl"))


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(NpkitError, match="is no ordinary file"):
        readers.read_file(str(tmp_path / "p.txt"))


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "p.txt").mkdir()
    with pytest.raises(NpkitError, match="is a folder, not a file"):
        readers.read_file(str(tmp_path / "p.txt"))
