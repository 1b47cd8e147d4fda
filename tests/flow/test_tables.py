"""Tables from files as users have them, and errors that name column and row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.errors import InvalidValueError
from fingerpost.flow import NumericTable, read_table, write_table
from fingerpost.flow.tables import decimals_of

VALUES = np.array([[1.5, 2.0], [-3.25, 4.0], [0.1, 1e6]])


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_with_a_header_in_any_usual_delimiter(tmp_path, delimiter):
    rows = [["width (mm)", "count"], *([repr(a), repr(b)] for a, b in VALUES.tolist())]
    path = write(tmp_path / "t.csv", "\n".join(delimiter.join(row) for row in rows) + "\n")
    table = read_table(path)
    assert table.columns == ("width (mm)", "count")
    np.testing.assert_array_equal(table.values, VALUES)


@pytest.mark.parametrize("start", ["\ufeff", "\n\n"])
def test_a_byte_order_mark_and_empty_lines_are_no_content(tmp_path, start):
    table = read_table(write(tmp_path / "t.csv", f"{start}a,b\n1,2\n\n3,4\n"))
    assert table.columns == ("a", "b")
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4]])


def test_a_csv_without_header_gets_names(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "1,2\n3,4\n")).columns == ("x1", "x2")


def test_quoted_names_may_hold_the_delimiter(tmp_path):
    table = read_table(write(tmp_path / "t.csv", '"a, in mm","b"\n1,2\n'))
    assert table.columns == ("a, in mm", "b")


def numpy_files(tmp_path):
    np.save(tmp_path / "m.npy", VALUES)
    np.savez(tmp_path / "m.npz", anything=VALUES)
    np.savez(tmp_path / "v.npz", x1=VALUES[:, 0], x2=VALUES[:, 1].astype("int32"))
    structured = np.array([tuple(row) for row in VALUES], dtype=[("x1", "f8"), ("x2", "f4")])
    np.save(tmp_path / "s.npy", structured)
    return ["m.npy", "m.npz", "v.npz", "s.npy"]


def test_numpy_files_give_the_same_table_as_a_matrix_as_vectors_and_structured(tmp_path):
    for name in numpy_files(tmp_path):
        table = read_table(tmp_path / name)
        assert table.columns == ("x1", "x2"), name
        np.testing.assert_array_equal(table.values, VALUES)


def test_parquet_is_read_with_names_missing_values_and_text(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "t.parquet"
    with duckdb.connect() as connection:
        rows = "SELECT * FROM (VALUES (1, 2.5, 'x'), (3, NULL, 'y'), (5, 6.5, 'z')) v(a, b, c)"
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    table = read_table(path, drop_text=True, drop_missing=True)
    assert (table.columns, table.dropped, table.dropped_rows) == (("a", "b"), ("c",), 1)
    np.testing.assert_array_equal(table.values, [[1, 2.5], [5, 6.5]])
    with pytest.raises(InvalidValueError, match=r"column 'b', row 2"):
        read_table(path, drop_text=True)
    (tmp_path / "no.parquet").write_bytes(b"PAR?")
    with pytest.raises(InvalidValueError, match="cannot be read as Parquet"):
        read_table(tmp_path / "no.parquet")


def test_text_and_missing_values_are_left_out_on_request_and_counted(tmp_path):
    path = write(tmp_path / "t.csv", "name,a,b\nx,1,2\ny,NA,3\nz,4,\nw,5,6\n")
    table = read_table(path, drop_text=True, drop_missing=True)
    assert (table.columns, table.dropped, table.dropped_rows) == (("a", "b"), ("name",), 2)
    np.testing.assert_array_equal(table.values, [[1, 2], [5, 6]])


def test_columns_are_chosen_in_the_given_order(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n1,x,3\n")
    table = read_table(path, columns=["c", "a"])
    assert table.columns == ("c", "a")
    np.testing.assert_array_equal(table.values, [[3, 1]])


BAD = [
    ("a,b\n1,2\n3,red\n", {}, r"column 'b' holds 'red' in row 2"),
    ("a,b\n1,2\n3,\n", {}, r"1 of 2 rows.*column 'b', row 2"),
    ("a,b\n1,inf\n", {}, r"infinite.*column 'b', row 1"),
    ("a,b\n1,2\n3\n", {}, r"row 2 has 1 cell and the first line 2"),
    ("a,a\n1,2\n", {}, "two columns called 'a'"),
    ("a,b\n", {}, "holds no rows"),
    ("", {}, "holds no rows"),
    ("a\nx\ny\n", {"drop_text": True}, "no column of numbers"),
    ("width,b\n1,2\n", {"columns": ["widht"]}, "did you mean 'width'"),
]


@pytest.mark.parametrize(("text", "options", "said"), BAD)
def test_what_is_no_table_of_numbers_is_refused_by_column_and_row(tmp_path, text, options, said):
    with pytest.raises(InvalidValueError, match=said):
        read_table(write(tmp_path / "t.csv", text), **options)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InvalidValueError, match=r"ends in '\.xlsx'"):
        read_table(write(tmp_path / "t.xlsx", "a"))
    (tmp_path / "latin.csv").write_bytes(b"gr\xf6\xdfe\n1\n")
    with pytest.raises(InvalidValueError, match="UTF-8"):
        read_table(tmp_path / "latin.csv")
    (tmp_path / "no.npy").write_bytes(b"nothing")
    with pytest.raises(InvalidValueError, match="cannot be read by NumPy"):
        read_table(tmp_path / "no.npy")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    with pytest.raises(InvalidValueError, match=r"\(2, 2, 2\)"):
        read_table(tmp_path / "cube.npy")
    np.savez(tmp_path / "uneven.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(InvalidValueError, match="unequal lengths"):
        read_table(tmp_path / "uneven.npz")


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidValueError, match="cannot be read"):
        read_table(tmp_path / "p.npy")


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_decimals_are_found_and_are_no_more_than_needed(numbers, digits):
    values = np.array(numbers) / 10**digits
    found = decimals_of(values)
    assert found is not None
    assert found <= digits
    np.testing.assert_allclose(np.round(values, found), values, rtol=1e-15)
    if found:
        assert not np.allclose(np.round(values, found - 1), values, rtol=0, atol=1e-12)


def test_samples_are_written_with_the_tables_precision_and_read_back(tmp_path):
    samples = np.array([[1.23456789, 2.71828, 3.0], [9.87654321, 1.41421, 4.0]])
    write_table(tmp_path / "s.csv", ["a", "b, mm", "c"], samples, [2, None, 0])
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == "1.23,2.71828,3"
    again = read_table(tmp_path / "s.csv")
    assert again.columns == ("a", "b, mm", "c")
    np.testing.assert_array_equal(again.values[:, 1], samples[:, 1])
    with pytest.raises(InvalidValueError, match=r"expected \(n, 2\)"):
        write_table(tmp_path / "s.csv", ["a", "b"], samples)


def test_a_table_is_an_array_to_numpy():
    table = NumericTable(("a", "b"), VALUES)
    np.testing.assert_array_equal(np.asarray(table), VALUES)
    assert len(table) == 3
    assert table.decimals == (2, 0)
