"""Translator: lines in and out, options, files that come back as they were, and folders that are refused."""

import json
import math
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from fingerpost.attention import (
    EOS,
    ORIGINAL_SEARCH,
    PAPER_SEARCH,
    UNK,
    DotAttention,
    MultiHeadAttention,
    RNNEncoderDecoder,
    RNNSearch,
    SearchOptions,
    Translator,
    WordSegmenter,
    alignment_svg,
)
from fingerpost.errors import InvalidTypeError, InvalidValueError

ENGLISH = ["one two three four five six seven", "a red hat on the cat"]
FRENCH = ["un deux trois quatre cinq six sept", "un chapeau rouge sur le chat"]
LINES = ["one two three", "a red hat on the cat", "", "seven", "a blue cat", "  "]
SIZES = {"embedding": 5, "hidden": 6, "maxout": 4}


def segmenters():
    return WordSegmenter.train(ENGLISH), WordSegmenter.train(FRENCH)


def model(kind="search", **changes):
    source, target = (side.size for side in segmenters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if kind == "fixed":
            made = RNNEncoderDecoder(source, target, **{**SIZES, **changes})
        else:
            made = RNNSearch(source, target, **{"attention": 7, **SIZES, **changes})
        for p in made.parameters():
            torch.nn.init.normal_(p, std=0.6)
    return made.double()


def translator(kind="search", **changes):
    return Translator(model(kind, **changes), *segmenters())


def test_every_line_has_its_translation_in_place_and_empty_ones_stay_empty():
    found = translator().translate(LINES)
    assert len(found) == len(LINES)
    for line, one in zip(LINES, found):
        if not line.strip():
            assert one == ("", 0.0, None, (), (), True)
            continue
        assert one.source_words == (*line.split(), "</s>")
        assert one.alignment.shape == (len(one.target_words), len(one.source_words))
        torch.testing.assert_close(one.alignment.sum(1), torch.ones(len(one.target_words)).double())
        assert one.text == " ".join(one.target_words).removesuffix("</s>").strip()


def test_scores_are_the_forced_scores_of_the_text():
    made = translator()
    english, french = segmenters()
    for line, one in zip(LINES, made.translate(LINES)):
        if line.strip() and one.complete:
            source, target = torch.tensor([english.encode(line)]), torch.tensor([french.encode(one.text)])
            assert one.score == pytest.approx(made.model.log_probs(source, target).sum().item(), abs=1e-10)


def test_batches_of_any_size_give_the_same():
    made = translator()
    whole = made.translate(LINES * 3)
    for size in (1, 2, 5):
        for a, b in zip(whole, made.translate(LINES * 3, batch=size)):
            assert (a.text, a.target_words) == (b.text, b.target_words)
            assert a.score == pytest.approx(b.score, abs=1e-12)


def test_unknown_words_are_in_outputs_only_where_they_are_allowed():
    made = translator()
    with torch.no_grad():
        made.model.decoder.output.bias[UNK] += 6
    assert not any("<unk>" in one.text for one in made.translate(LINES))
    assert any("<unk>" in one.text for one in made.translate(LINES, unknown=True))


def test_dropout_is_off_in_a_search_and_as_it_was_after_it():
    made = translator(dropout=0.5)
    made.model.train()
    made.model.encoder.eval()
    first = made.translate(LINES)
    assert [one.score for one in first] == [one.score for one in made.translate(LINES)]
    assert made.model.training
    assert not made.model.encoder.training
    assert not any(one.requires_grad for one in (x.alignment for x in first) if one is not None)


def test_the_original_codes_limits_are_kept():
    made = translator()
    for one in made.translate(LINES, ORIGINAL_SEARCH, width=3):
        if one.source_words:
            n = len(one.source_words)
            assert n // 2 <= len(one.target_words) - 1 < 3 * n
    assert ORIGINAL_SEARCH.limits([1, 4, 7]) == {"minimum_length": [0, 2, 3], "max_length": [3, 12, 21]}
    assert PAPER_SEARCH.limits([4]) == {"minimum_length": [0], "max_length": [28]}


def test_an_output_that_never_ends_is_cut_and_says_so():
    made = translator()
    with torch.no_grad():
        made.model.decoder.output.bias[EOS] -= 1e4
    (one,) = made.translate(["one two"], maximum=2.0)
    assert not one.complete
    assert len(one.target_words) == 6
    assert "</s>" not in one.target_words


def test_without_attention_there_is_no_alignment():
    (one,) = translator("fixed").translate(["one two"])
    assert one.alignment is None
    assert one.target_words


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("search", {}),
        ("search", {"reset": "after", "readout_state": "original", "bidirectional": False, "dropout": 0.2}),
        ("search", {"attention": DotAttention(6, 12)}),
        ("search", {"attention": DotAttention(6, 6, project=False), "bidirectional": False}),
        ("search", {"attention": MultiHeadAttention(6, 12, 4, heads=2), "fused": False}),
        ("fixed", {}),
        ("fixed", {"bidirectional": True, "readout_state": "previous"}),
    ],
)
def test_a_saved_translator_comes_back_and_translates_the_same(tmp_path, kind, changes):
    made = translator(kind, **changes)
    state = torch.get_rng_state()
    loaded = Translator.load(made.save(tmp_path / "kept"))
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "translator.json",
        "translator.safetensors",
    ]
    assert type(loaded.model) is type(made.model)
    assert not loaded.model.training
    assert repr(loaded.model) == repr(made.model)
    for a, b in zip(made.translate(LINES), loaded.translate(LINES)):
        assert (a.text, a.score, a.target_words) == (b.text, b.score, b.target_words)
    # a run's folder holds it in a folder of its own
    assert Translator.load(tmp_path).translate(["one"])[0].text == made.translate(["one"])[0].text


def test_a_vocabulary_from_another_run_is_refused(tmp_path):
    made = translator()
    folder = made.save(tmp_path / "a")
    facts = json.loads((folder / "translator.json").read_text())
    words = facts["source"]["state"]["vocabulary"]["words"]
    words[0], words[1] = words[1], words[0]
    (folder / "translator.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidValueError, match="source vocabulary is from another run"):
        Translator.load(folder)
    english, french = segmenters()
    with pytest.raises(InvalidValueError, match="source segmenter has"):
        Translator(made.model, WordSegmenter.train(["one"]), french)
    with pytest.raises(InvalidValueError, match="target segmenter has"):
        Translator(made.model, english, WordSegmenter.train(["un"]))


def test_weights_of_another_run_are_refused(tmp_path):
    a, b = translator().save(tmp_path / "a"), translator(reset="after").save(tmp_path / "b")
    (a / "translator.safetensors").write_bytes((b / "translator.safetensors").read_bytes())
    with pytest.raises(InvalidValueError, match="damaged or from another run"):
        Translator.load(a)
    with pytest.raises(InvalidValueError, match="2 translators"):
        Translator.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "this version can read"),
        ('{"format": "other"}', "this version can read"),
        (None, "has no translator"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, content, message):
    folder = translator().save(tmp_path / "a")
    if content is None:
        (folder / "translator.json").unlink()
    else:
        (folder / "translator.json").write_text(content)
    with pytest.raises(InvalidValueError, match=message):
        Translator.load(folder)
    with pytest.raises(InvalidValueError, match="no folder"):
        Translator.load(tmp_path / "nowhere")


@pytest.mark.parametrize("key", ["model", "source", "target"])
def test_a_file_that_lacks_a_part_is_refused(tmp_path, key):
    folder = translator().save(tmp_path / "a")
    facts = json.loads((folder / "translator.json").read_text())
    del facts[key]
    (folder / "translator.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidValueError):
        Translator.load(folder)


def test_a_model_that_a_file_cannot_describe_is_refused_before_anything_is_written(tmp_path):
    class Mine(RNNSearch):
        pass

    class Other(DotAttention):
        pass

    english, french = segmenters()
    for made in (
        Mine(english.size, french.size, attention=7, **SIZES),
        RNNSearch(english.size, french.size, attention=Other(6, 12), **SIZES),
    ):
        with pytest.raises(InvalidTypeError):
            Translator(made, english, french).save(tmp_path / "a")
        assert not list(tmp_path.glob("a/*"))


@pytest.mark.parametrize(
    ("error", "lines", "options"),
    [
        (InvalidTypeError, "one two", {}),
        (InvalidTypeError, ["one", 2], {}),
        (InvalidValueError, ["one"], {"width": 0}),
        (InvalidValueError, ["one"], {"batch": 0}),
        (InvalidValueError, ["one"], {"breadth": 3}),
        (InvalidValueError, ["one"], {"minimum": -1.0}),
        (InvalidValueError, ["one"], {"minimum": 2.0, "maximum": 1.0}),
        (InvalidValueError, ["one"], {"maximum": math.inf}),
        (InvalidValueError, ["one"], {"minimum": math.nan}),
        (InvalidValueError, ["one"], {"normalize": "sum"}),
    ],
)
def test_wrong_lines_and_options_are_refused(error, lines, options):
    with pytest.raises(error):
        translator().translate(lines, **options)


def test_no_lines_give_no_translations():
    assert translator().translate([]) == []
    assert SearchOptions().limits([]) == {"minimum_length": [], "max_length": []}


def test_a_picture_is_an_svg_with_a_cell_for_each_weight_and_any_script():
    weights = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    picture = alignment_svg(weights, ["日本", "a&b", "</s>"], ["<x>", "\x00\n"])
    root = ElementTree.fromstring(picture)
    cells = [one for one in root if one.tag.endswith("rect")]
    assert [float(one.get("fill-opacity")) for one in cells] == [0.25, 0.75, 0.0, 1.0, 0.0, 0.0]
    words = [one.text for one in root if one.tag.endswith("text")]
    assert words == ["日本", "a&b", "</s>", "<x>", "��"]
