from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.data.codec import BadValue, CodecContext
from embedkit.schema import FieldSpec
from embedkit.testing.conformance.codec import CodecConformance
from embedkit_text.fields import TextOptions
from embedkit_text.text import Text
from embedkit_text.words import split_words


class TestFull(CodecConformance):
    codec = Text
    options = TextOptions()
    values = pa.array(["Parse a date", "", None, "datetime.strptime(date_string)", "Ünïcode ÉtéBleu", "a a a", "日本語"])
    unseen = pa.array(["parse", "x" * 500, "  ", None])
    wrong = (pa.array([1]), pa.array([b"x"]), pa.array([["a"]]))
    shuffled = True


class TestWordsOnly(CodecConformance):
    codec = Text
    options = TextOptions(bigrams=False, ngrams=[], idf_buckets=0, max_tokens=2)
    values = pa.array(["one two three", None, "two"], pa.large_string())
    shuffled = True


class TestDictionary(CodecConformance):
    codec = Text
    options = TextOptions(idf_buckets=64)
    values = pa.array(["red wine", "red wine", None, "wine"]).dictionary_encode()


def codec_of(*arrays, **options):
    codec = Text(TextOptions(**options), context=CodecContext(FieldSpec("t", "text", "table", None, "t")))
    for array in arrays:
        codec.observe(array)
    codec.finish()
    return codec


def words_of(*texts, most=64):
    words = split_words(pa.array(texts, pa.large_string()), most)
    out = [[] for _ in texts]
    for start, stop, row in zip(words.start, words.stop, words.row, strict=True):
        out[row].append(bytes(words.data[start:stop]).decode())
    return out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parseDate", "parse date"),
        ("HTTPServer", "http server"),
        ("datetime.strptime", "datetime strptime"),
        ("utf_8_sig", "utf 8 sig"),
        ("float64", "float 64"),
        ("__init__", "init"),
        ("WHITE HANGING HEART T-LIGHT", "white hanging heart t light"),
        ("ABCs", "ab cs"),
        ("a", "a"),
        ("A", "a"),
        ("", ""),
        ("—!? ", ""),
        ("Café ÉtéBleu", "cafe ete bleu"),
        ("ﬁne ½ “quoted”—dash", "fine 1 2 quoted dash"),
        ("Привет, МИР", "привет мир"),
        ("日本語 テキスト", "日本語 テキスト"),
        ("naïve\u00adness", "naive ness"),
        ("tab\tnew\nline", "tab new line"),
    ],
)
def test_words(text, expected):
    assert words_of(text) == [expected.split()]
    # neighbours change nothing, whichever way they begin and end
    assert words_of("X", text, "caf", text, "Éa")[1::2] == [expected.split()] * 2


def test_max_tokens_keeps_the_first_words():
    assert words_of("a b c d", "e", "", "f g h", most=2) == [["a", "b"], ["e"], [], ["f", "g"]]


def reference(text, *, bigrams, ngrams, most):
    """The tokens of a text as strings, written plainly."""
    words = words_of(text)[0][:most]
    out = [("w", w) for w in words]
    if bigrams:
        out += [("p", a, b) for a, b in pairwise(words)]
    for n in sorted(ngrams):
        for word in words:
            marked = f" {word} "[:64]
            out += [(n, marked[i : i + n]) for i in range(len(marked) - n + 1)]
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="abCD é1_.日", max_size=30), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([[], [3], [3, 4, 5], [1, 2]]),
    st.sampled_from([1, 3, 64]),
)
def test_hashes_stand_for_tokens(texts, bigrams, ngrams, most):
    column = codec_of(bigrams=bigrams, ngrams=ngrams, max_tokens=most).encode(pa.array(texts))
    hashes = column.values.tolist()
    seen: dict[object, int] = {}
    for row, text in enumerate(texts):
        found = hashes[int(column.offsets[row]) : int(column.offsets[row + 1])]
        tokens = reference(text, bigrams=bigrams, ngrams=ngrams, most=most)
        assert len(found) == len(tokens)
        for token, value in zip(tokens, found, strict=True):
            assert seen.setdefault(token, value) == value
    assert len(set(seen.values())) == len(seen)
    assert all(value >= 0 for value in hashes)


def test_known_hashes():
    column = codec_of(ngrams=[3]).encode(pa.array(["Red wine"]))
    assert column.values.tolist() == KNOWN


def test_idf_counts_rows_not_occurrences():
    texts = pa.array(["red red red wine", "red", None, "blue"])
    codec = codec_of(texts, ngrams=[], bigrams=False)
    stats = codec.stats
    idf, buckets = stats.extras["idf"], stats.extras["idf_buckets"]
    red, wine = codec.encode(pa.array(["red wine"])).values.tolist()
    assert float(idf[red % buckets]) == pytest.approx(np.log(4 / 3) + 1)
    assert float(idf[wine % buckets]) == pytest.approx(np.log(4 / 2) + 1)
    never = codec.encode(pa.array(["green"])).values.item()
    assert idf[never % buckets] == 0
    assert int((idf > 0).sum()) == 3
    assert codec_of(texts, idf_buckets=0).stats.extras == {}


def test_misspelt_words_share_ngrams():
    codec = codec_of()
    one, two, other = (set(codec.encode(pa.array([t])).values.tolist()) for t in ("calendar", "calender", "zip file"))
    assert len(one & two) / len(one | two) > 0.3
    assert not one & other


def test_what_is_no_text_is_named():
    with pytest.raises(BadValue, match=r"^table: column 't', row 1: found 3 \(int64\), wanted text"):
        codec_of().encode(pa.array([None, 3]))
    raw = pa.array([b"fine", b"caf\xe9 au lait"])
    latin = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    with pytest.raises(BadValue, match=r"row 1: found bytes that are not UTF-8 \(b'caf\\xe9 au lait'\)"):
        codec_of().encode(latin)
    with pytest.raises(BadValue, match="row 5001: found bytes"):
        codec_of().encode(pa.concat_arrays([pa.array([""] * 5000), latin]))


def test_long_columns_are_cut_and_put_together():
    texts = pa.array([f"item number {i}" for i in range(10_000)])
    codec = codec_of()
    whole = codec.encode(texts)
    assert len(whole) == 10_000
    row = codec.encode(texts.slice(9_999))
    assert whole.values[whole.offsets[9_999] :].equal(row.values)


def test_options_are_checked():
    with pytest.raises(ValueError, match="n-gram lengths"):
        TextOptions(ngrams=[0])


KNOWN = [
    2421937317010831606,
    4086289742827334328,
    4072730601428917644,
    6886787450955468090,
    4754562048871768930,
    3825902213044093524,
    4398288651116777408,
    3722406208599878905,
    1114116008032463341,
    2011141601150631683,
]
