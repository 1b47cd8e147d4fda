"""Parallel text from files: what is read, what is refused and how it is named, and the parts that it is cut into."""

import gzip
from pathlib import Path

import pytest

from fingerpost.attention import ParallelText
from fingerpost.attention.text import read_lines
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

SOURCE, TARGET = ["a red hat", "a cat", "the dog sleeps"], ["un chapeau rouge", "un chat", "le chien dort"]
MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture
def pair(tmp_path):
    def make(source, target):
        return write(tmp_path, "text.en", source), write(tmp_path, "text.fr", target)

    return make


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_plain_and_compressed_files_give_the_same_lines_however_they_end(pair, end, last, pack, mark):
    files = pair(*(pack(mark + (end.join(side) + end * last).encode()) for side in (SOURCE, TARGET)))
    text = ParallelText.read(*files)
    assert list(text) == list(zip(SOURCE, TARGET))


def test_separators_of_unicode_stay_inside_a_line(pair):
    text = ParallelText.read(*pair("a\u2028b\x0bc\x85d\re\nf\n", "g\nh\n"))
    assert text.source == ("a\u2028b\x0bc\x85d\re", "f")


def test_one_file_with_tabs_gives_its_first_two_cells_or_those_named(tmp_path):
    rows = "".join(f"{a}\t{b}\tby {i}\n" for i, (a, b) in enumerate(zip(SOURCE, TARGET)))
    file = write(tmp_path, "pairs.tsv.gz", gzip.compress(rows.encode()))
    assert list(ParallelText.read(file)) == list(zip(SOURCE, TARGET))
    assert ParallelText.read(file, columns=(3, 1)).source == ("by 0", "by 1", "by 2")


def test_quotation_marks_in_cells_are_text(tmp_path):
    file = write(tmp_path, "pairs.tsv", '"a\t"b" c\n')
    assert list(ParallelText.read(file)) == [('"a', '"b" c')]


def test_files_of_unequal_length_are_refused_with_both_counts(pair):
    with pytest.raises(InvalidValueError, match=r"text\.en has 3 lines and .*text\.fr 2;"):
        ParallelText.read(*pair("a\nb\nc\n", "a\nb\n"))


def test_an_empty_line_is_refused_by_its_number_or_its_pair_dropped(pair):
    files = pair("a\n \nc\nd\n", "a\nb\nc\n\n")
    with pytest.raises(InvalidValueError, match=r"text\.en: line 2 is empty, the first of 2 empty lines"):
        ParallelText.read(*files)
    assert ParallelText.read(*files, empty="drop").source == ("a", "c")


def test_an_empty_line_at_the_end_is_a_line(pair):
    with pytest.raises(InvalidValueError, match=r"text\.en: line 2 is empty"):
        ParallelText.read(*pair("a\n\n", "a\nb\n"))


def test_an_empty_cell_is_refused_by_side(tmp_path):
    with pytest.raises(InvalidValueError, match="line 2 is empty in the target"):
        ParallelText.read(write(tmp_path, "pairs.tsv", "a\tb\nc\t\n"))


def test_a_row_without_enough_cells_is_refused_by_its_number(tmp_path):
    with pytest.raises(InvalidValueError, match="line 2 has 1 cells between tabs"):
        ParallelText.read(write(tmp_path, "pairs.tsv", "a\tb\nc\n"))


def test_bytes_that_are_no_text_are_refused_by_file_line_and_place(pair):
    with pytest.raises(InvalidValueError, match=r"text\.fr: line 2 is not UTF-8: byte 0xe9 at place 3"):
        ParallelText.read(*pair("a\nb\n", b"a\nb \xe9t\xe9\n"))


def test_a_line_beyond_the_limit_is_refused_by_its_number_and_length(pair):
    files = pair("a\nb c d e\nf g h\n", "a\nb\nc\n")
    with pytest.raises(InvalidValueError, match=r"text\.en: line 2 has 4 words and the limit is 2; 2 lines"):
        ParallelText.read(*files, limit=2)
    assert len(ParallelText.read(*files, limit=4)) == 3


def test_the_limit_counts_lines_of_the_file_when_pairs_are_dropped(pair):
    with pytest.raises(InvalidValueError, match=r"text\.en: line 3 has 3 words"):
        ParallelText.read(*pair("a\n\nf g h\n", "a\nb\nc\n"), empty="drop", limit=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"a\nb\n" * 99, mtime=0)[:-9], "can't be decompressed"),
        (b"\x1f\x8bno gzip at all", "can't be decompressed"),
        ("a\nb\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, data, message):
    with pytest.raises(InvalidValueError, match=message):
        read_lines(write(tmp_path, "bad", data))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ParallelText.read("no/such", "other"), InvalidValueError, "no file 'no/such'"),
        (lambda: ParallelText.read("x", "y", empty="keep"), InvalidValueError, "empty is 'keep'"),
        (lambda: ParallelText.read("x", "y", limit=0), InvalidValueError, "limit is 0"),
        (lambda: ParallelText(["a"], ["b", "c"]), ShapeError, "source has 1 lines and target 2"),
        (lambda: ParallelText([], []), InvalidValueError, "at least one pair"),
        (lambda: ParallelText("a", "b"), InvalidTypeError, "source is one text"),
        (lambda: ParallelText(["a", "b"], ["c", " "]), InvalidValueError, "target line 2 is empty"),
        (lambda: ParallelText(["a"], [b"c"]), InvalidTypeError, "target line 1 is bytes"),
        (lambda: ParallelText(SOURCE, TARGET).filtered(1), InvalidValueError, "no pair of 3 .* has 2"),
        (lambda: ParallelText(SOURCE, TARGET).split(3), InvalidValueError, "held is 3 of 3 pairs"),
        (lambda: ParallelText(SOURCE, TARGET).split(0), InvalidValueError, "held is 0"),
        (lambda: ParallelText(SOURCE, TARGET).joined(4), InvalidValueError, "between 1 and the 3 pairs"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_filtering_keeps_pairs_whose_both_lines_fit():
    text = ParallelText(["a", "a b", "a b c", "a"], ["x", "x y", "x", "x y z"])
    assert text.filtered(2).source == ("a", "a b")
    assert text.filtered(9, min_length=2).source == ("a b",)
    assert text.filtered(9, max_ratio=2.0).source == ("a", "a b")
    assert text.filtered(3, length=len).source == ("a", "a b")


def test_a_split_keeps_pairs_with_the_same_source_on_one_side_and_loses_none():
    source = [f"s{i % 30}" for i in range(90)]
    text = ParallelText(source, [f"t{i}" for i in range(90)])
    rest, held = text.split(0.2, seed=3)
    assert len(held) == 18
    assert len(text.split(17)[1]) == 15
    assert not set(rest.source) & set(held.source)
    assert sorted(rest.target + held.target) == sorted(text.target)
    assert text.split(18, seed=3)[1] == held != text.split(18, seed=4)[1]


def test_joined_pairs_use_each_pair_once_in_the_same_order_on_both_sides():
    text = ParallelText([f"s{i}" for i in range(7)], [f"t{i}" for i in range(7)])
    joined = text.joined(3, seed=1)
    assert len(joined) == 2
    used = [word for line in joined.source for word in line.split()]
    assert len(set(used)) == 6
    for source, target in joined:
        assert source.replace("s", "t") == target
    assert sorted(text.joined(1).source) == sorted(text.source)
    assert text.joined(3, seed=1) == joined


def test_swapping_twice_gives_the_text_again():
    text = ParallelText(SOURCE, TARGET)
    assert text.swapped()[0] == (TARGET[0], SOURCE[0])
    assert text.swapped().swapped() == text


def test_real_captions_are_read_whole():
    if not MULTI30K.is_dir():
        pytest.skip("Multi30k is not beside this checkout (../shared/data/multi30k)")
    text = ParallelText.read(MULTI30K / "test_2016_flickr.en.gz", MULTI30K / "test_2016_flickr.fr.gz")
    assert len(text) == 1000
    with pytest.raises(InvalidValueError, match=r"train\.en\.gz has 29000 lines and .*val\.fr\.gz 1014;"):
        ParallelText.read(MULTI30K / "train.en.gz", MULTI30K / "val.fr.gz")
