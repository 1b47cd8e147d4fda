"""Sequences from CSV files: what is read, and what is refused by column and row."""

import pytest
import torch

from fingerpost.errors import InvalidValueError
from fingerpost.td import TDLearner, read_sequences

GOOD = "sequence,pressure,wind,outcome\nmay,1012,3,\njune,1000,1.5,0\nmay,1003,4,1\nmay,998,6,1\n"


def write(tmp_path, text, name="days.csv", encoding="utf-8"):
    file = tmp_path / name
    file.write_bytes(text.encode(encoding))
    return file


def test_rows_are_grouped_by_sequence_in_the_order_of_the_file(tmp_path):
    table = read_sequences(write(tmp_path, GOOD))
    assert table.features == ("pressure", "wind")
    assert table.ids == ("may", "june")
    assert len(table) == 2
    may, june = table
    assert may.observations.tolist() == [[1012, 3], [1003, 4], [998, 6]]
    assert (may.outcome, june.outcome, may.rewards) == (1.0, 0.0, None)
    assert june.observations.dtype == torch.float64


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_a_byte_order_mark_and_blank_lines_are_read(tmp_path, delimiter):
    text = GOOD.replace(",", delimiter).replace("\n", "\r\n") + "\r\n\r\n"
    table = read_sequences(write(tmp_path, text, encoding="utf-8-sig"))
    assert table.sequences[0].observations.tolist() == [[1012, 3], [1003, 4], [998, 6]]


def test_columns_may_be_named_chosen_and_hold_rewards(tmp_path):
    text = "day,run,gain,x,z\nmonday,1,0.5,2,\ntuesday,1,0.25,3,7\n"
    table = read_sequences(write(tmp_path, text), sequence="run", outcome="z", reward="gain", features=["x"])
    (only,) = table
    assert (only.observations.tolist(), only.rewards.tolist(), float(only.outcome)) == (
        [[2], [3]],
        [0.5, 0.25],
        7,
    )


def test_a_table_can_be_learned_from(tmp_path):
    learner = TDLearner(lam=0.5).fit(read_sequences(write(tmp_path, GOOD)))
    assert learner.predict([[1000.0, 1.5]]).shape == (1,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows below a header"),
        ("sequence,x,outcome\n", "holds no rows below a header"),
        ("sequnce,x,outcome\na,1,1\n", "has no column 'sequence'.*did you mean 'sequnce'"),
        ("sequence,x,result\na,1,1\n", "has no column 'outcome'; it has sequence, x, result"),
        ("sequence,outcome\na,1\n", "no column of features"),
        ("sequence,x,x,outcome\na,1,1,1\n", "two columns called 'x'"),
        ("sequence,x,outcome\na,1,1\nb,1\n", "row 2 has 2 cells and the header 3"),
        ("sequence,x,outcome\na,1,1\nb,warm,1\n", "column 'x' holds 'warm' in row 2"),
        ("sequence,x,outcome\na,1,1\nb,,1\n", "column 'x' has no value in row 2"),
        ("sequence,x,outcome\na,NaN,1\n", "column 'x' has no value in row 1"),
        ("sequence,x,outcome\na,inf,1\n", "column 'x' has inf in row 1"),
        ("sequence,x,outcome\na,1,rain\n", "column 'outcome' holds 'rain' in row 1"),
        ("sequence,x,outcome\na,1,1\na,2,\n", "sequence 'a' has no outcome in its last row, 2"),
        ("sequence,x,outcome\na,1,nan\n", "sequence 'a' has no outcome in its last row, 1"),
        ("sequence,x,outcome\na,1,0\na,2,1\n", "sequence 'a' has two outcomes, 0 in row 1 and 1 in row 2"),
        ("sequence,x,outcome\n,1,0\n", "column 'sequence' is empty in row 1"),
    ],
)
def test_a_bad_file_is_refused_by_column_and_row(tmp_path, text, said):
    with pytest.raises(InvalidValueError, match=said):
        read_sequences(write(tmp_path, text))


def test_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="there is no file"):
        read_sequences(tmp_path / "none.csv")
    with pytest.raises(InvalidValueError, match="there is no file"):
        read_sequences(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00sequence")
    with pytest.raises(InvalidValueError, match="not text in UTF-8"):
        read_sequences(tmp_path / "x.csv")
