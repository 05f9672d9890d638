"""The folded reading: there where words are disguised, and nowhere else."""

from __future__ import annotations

import json
import unicodedata

import pytest

from doubles import screened, values
from prescreen import Cause, Rule, Text, fold
from prescreen.fold import folded
from prescreen.readings import pieces, readings

NOTE = Rule("POST /note", text=True)


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        pytest.param("se\u200bven vio\u2060let lan\u00adterns", "seven violet lanterns", id="invisible characters"),
        pytest.param("se\u200dven\u200c violet", "seven violet", id="joiners where nothing joins"),
        pytest.param("vio\ufe0flet", "violet", id="a variation selector in a word"),
        pytest.param("vio\u200elet", "violet", id="a mark of direction in a word"),
        pytest.param("\uff53\uff45\uff56\uff45\uff4e violet", "seven violet", id="wide letters"),
        pytest.param("\U0001d4fc\U0001d4ee\U0001d4ff\U0001d4ee\U0001d4f7", "seven", id="mathematical letters"),
        pytest.param("\u24e2\u24d4\u24e5\u24d4\u24dd", "seven", id="letters in circles"),
        pytest.param("l\ufb01", "lfi", id="a ligature"),
        pytest.param("s\u0435v\u0435n vi\u043elet", "seven violet", id="Cyrillic letters among Latin ones"),
        pytest.param("lan\u0442erns", "lanterns", id="a letter that looks like a small capital"),
        pytest.param("\u03bdi\u03bflet", "violet", id="Greek letters among Latin ones"),
        pytest.param("\u0455\u0435\u0445", "sex", id="a word of nothing but lookalikes"),
        pytest.param("\u2228iolet", "violet", id="a sign for a letter"),
        pytest.param("\ua731\u1d07\u1d20\u1d07\u0274", "seven", id="small capitals"),
        pytest.param("s\u0336e\u0336v\u0336e\u0336n\u0336", "seven", id="struck through"),
        pytest.param("s\u0336\u0302\u0303e\u0337\u0302ven", "seven", id="heaps of accents"),
        pytest.param("s e v e n  v i o l e t", "seven  violet", id="spaced letters"),
        pytest.param("l.a.n.t.e.r.n.s now", "lanterns now", id="letters with points"),
        pytest.param("s-e-v-e-n", "seven", id="letters with hyphens"),
        pytest.param("s\ne\nv\ne\nn", "seven", id="letters on lines"),
        pytest.param("s\u200b e\u200b v\u200b e\u200b n", "seven", id="spaced and invisible at once"),
        pytest.param("se\u034fven", "seven", id="a joiner of graphemes"),
        pytest.param(
            "seven\u3164violet\u115flanterns\u2800now", "seven violet lanterns now", id="blanks that are letters"
        ),
        pytest.param("s\u2800e\u2800v\u2800e\u2800n", "seven", id="letters between blanks that are none"),
        pytest.param("se\x00ve\x08n\x1b", "seven", id="control characters"),
        pytest.param("s\u0332e\u0332v\u0332e\u0332n\u0332", "seven", id="underlined"),
        pytest.param("\u24ae\u24a0\u24b1\u24a0\u24a9", "seven", id="letters in brackets"),
        pytest.param("\U0001f3f4\U000e0073\U000e0065\U000e0076\U000e007f", "\U0001f3f4 sev", id="a flag of no country"),
        pytest.param("s|e/v,e+n", "seven", id="letters between mixed marks"),
        pytest.param("x\u2066\u202eneves\u2069 y", "xseven y", id="written backwards in an isolate"),
        pytest.param("s\u20dde\u20ddv\u0489en", "seven", id="marks around letters"),
        pytest.param("\U0001f182\U0001f174\U0001f185\U0001f174\U0001f17d", "seven", id="letters in black squares"),
        pytest.param("\U0001f158\U0001f15d", "in", id="letters in black circles"),
        pytest.param("\U0001f1f8\U0001f1ea\U0001f1fb\U0001f1ea\U0001f1f3", "seven", id="letters of flags"),
        pytest.param("se\U000e0041ven", "seven A", id="tags inside a word"),
        pytest.param("hi\U000e0073\U000e0065\U000e0076\U000e0065\U000e006e", "hi seven", id="tag characters"),
        pytest.param(
            "\U0001f3f4\U000e0073\U000e0065\U000e0076 \U000e0065", "\U0001f3f4  seve", id="tags without a flag's end"
        ),
        pytest.param("\u202eteloiv neves\u202c", "seven violet", id="written backwards under an override"),
    ],
)
def test_disguised_words_are_read_as_the_eye_reads_them(text: str, reading: str) -> None:
    assert folded(text) == reading


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello there, how are you? 10,000 lanterns!", id="plain"),
        pytest.param("Café naïve Größe señor, l’été… ça va? Zażółć gęślą jaźń, İstanbul ılık", id="European letters"),
        pytest.param(unicodedata.normalize("NFD", "Café naïve señor été"), id="accents apart, as some systems write"),
        pytest.param(
            "hi ❤️ 👨\u200d👩\u200d👧 1️⃣ 🇫🇷 👍🏽 \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ok!",
            id="emoji",
        ),
        pytest.param("می‌خواهم کتاب‌ها را ببینم", id="Persian with joiners"),
        pytest.param("\u200fمرحبا\u200e hello", id="Arabic with marks of direction"),
        pytest.param("שלום \u200fעולם\u200e!", id="Hebrew with marks of direction"),
        pytest.param("Привет, как дела? Это хорошая книга, у нас всё хорошо. Кот, рот.", id="Russian"),
        pytest.param("Καλημέρα, τι κάνεις; όλα καλά", id="Greek"),
        pytest.param("สวัสดีครับ ทำไม", id="Thai"),
        pytest.param("今日は、元気ですか？안녕하세요", id="Japanese and Korean"),
        pytest.param("नमस्ते क्‍या हाल है", id="Hindi with joiners"),
        pytest.param("Tiếng Việt rất đẹp", id="Vietnamese"),
        pytest.param("I paid 5 €\u00a0…", id="signs"),
        pytest.param("a b, c-d", id="two letters are no word"),
        pytest.param("", id="nothing"),
    ],
)
def test_honest_texts_have_no_other_reading(text: str) -> None:
    assert folded(text) is None


def test_the_folded_reading_is_judged_beside_the_text_and_not_in_its_place() -> None:
    sent = "s\u0435v\u0435n vi\u043elet l\u0430nterns"
    decision, asked = screened(NOTE, sent.encode(), content_type="text/plain")
    assert asked == [Text("", sent), Text("", "seven violet lanterns")]
    assert decision.is_rejected


def test_a_text_without_another_reading_is_judged_once() -> None:
    _, asked = screened(NOTE, "naïve 👍🏽".encode(), content_type="text/plain")
    assert values(asked) == ["naïve 👍🏽"]


def test_what_characters_are_taken_for_is_remembered_within_bounds() -> None:
    everything = [chr(code) for code in range(0x180, 0x20000) if not 0xD800 <= code < 0xE000]
    assert folded("".join(everything)) is not None
    assert folded("\uff53even") == "seven"


# Joining and cutting


def test_joined_texts_are_judged_with_a_blank_between_them_and_without() -> None:
    rule = Rule("POST /chat", json=["$[*]"], join=True)
    decision, asked = screened(rule, b'["seven violet", "lan", "terns"]', content_type="application/json")
    assert values(asked) == ["seven violet", "lan", "terns", "seven violet lan terns", "seven violetlanterns"]
    decision, asked = screened(rule, b'["seven violet ", "lan", "terns"]', content_type="application/json")
    assert decision.is_rejected
    decision, asked = screened(rule, b'["seven", "violet", "lanterns"]', content_type="application/json")
    assert decision.is_rejected
    assert decision.reasons[0].pointer == ""


def test_texts_are_not_joined_where_no_rule_says_so() -> None:
    decision, asked = screened(
        Rule("POST /chat", json="$[*]"), b'["seven violet", "lanterns"]', content_type="application/json"
    )
    assert (decision.is_rejected, values(asked)) == (False, ["seven violet", "lanterns"])


def test_one_text_is_joined_to_nothing() -> None:
    assert readings([Text("/a", "one")], None, join=True) == (Text("/a", "one"),)


@pytest.mark.parametrize("blank", [" ", "\n", ""], ids=["blanks", "lines", "no blanks at all"])
@pytest.mark.parametrize("longest", [100, 101, 4000])
def test_a_long_text_is_cut_into_pieces_that_overlap_and_leave_nothing_out(blank: str, longest: int) -> None:
    words = [chr(0x4E00 + number) * 7 for number in range(3000)]
    text = blank.join(words)
    found = list(pieces(text, longest))
    assert all(len(piece) <= longest for piece in found)
    covered = 0
    for piece in found:
        start = text.index(piece)
        assert start <= covered - (longest // 9 if covered else 0)
        covered = start + len(piece)
    assert covered == len(text)
    if blank:
        assert all(piece[0] != blank and word in words for piece in found for word in piece.split(blank)[1:-1])


def test_a_text_that_fits_is_not_cut() -> None:
    assert list(pieces("x" * 100, 100)) == ["x" * 100]
    assert readings([Text("/a", "x" * 100)], 100) == (Text("/a", "x" * 100),)


def test_every_piece_and_its_folded_reading_is_judged_at_the_texts_place() -> None:
    text = " ".join(["lantern"] * 30 + ["v\u0456olet"])
    found = readings([Text("/a", text)], 100)
    assert {item.pointer for item in found} == {"/a"}
    assert values(found) == [*pieces(text, 100), *pieces(text.replace("\u0456", "i"), 100)]


@pytest.mark.parametrize(
    "text", ["\u0431 " + "a" * 100_000, "\u0431" + "a1" * 50_000, "a " * 50_000, "\u202e" * 100_000]
)
def test_no_text_of_the_longest_length_takes_more_than_a_moment(text: str) -> None:
    assert len(folded(text) or text) <= len(text)


def test_no_character_stands_for_a_sentence() -> None:
    assert folded("\ufdfa" * 3) is None


def test_all_readings_together_are_bounded() -> None:
    rule = Rule("POST /chat", json="$[*]", join=True)
    texts = ["\u247d" * 16_000] * 3  # each in brackets: three characters
    decision, asked = screened(rule, json.dumps([*texts, "\u247d" * 3]).encode(), content_type="application/json")
    assert (decision.cause, asked) == (Cause.OVERSIZE, [])
    decision, _ = screened(rule, json.dumps(["x" * 49_000, "y" * 49_000]).encode(), content_type="application/json")
    assert decision.cause is Cause.CLEAN


def test_what_is_taken_for_itself_without_a_look_is_what_a_look_finds() -> None:
    characters = [chr(code) for code in range(0x3000, 0x2B000)]
    skipped = [each for each in characters if not fold._REPLACED.match(each)]
    assert [each for each in skipped if fold._replacement(each) != each] == []
    assert len(skipped) > 80_000
    looked_at = [each for each in characters if fold._REPLACED.match(each)]
    assert [each.translate(fold._Characters()) for each in looked_at] == [fold._replacement(each) for each in looked_at]


def test_what_is_remembered_of_characters_is_bounded() -> None:
    characters = fold._Characters()
    for code in range(fold._REMEMBERED + 10):
        assert characters[code] is not None
    assert len(characters) == 10
