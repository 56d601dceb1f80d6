"""Decides whether a text looks like a person's name, in the scripts and languages of many countries.

A text is split into words. Titles, initials and particles say nothing. Every other word has a score: the sum of the
weights of its groups of three and four bytes, by logistic regression over names of some 70 countries against
dictionaries of some 25 languages. So a name that nobody listed scores by how it is spelt. A word that only looks like
one of a dictionary (`Lovelace`) counts little; one that is in a dictionary (`Machine`) counts whole.

`words/persons.bin` holds the weights, a signed byte each, and two Bloom filters: of the dictionaries and of the names.
scripts/vocabulary/persons.py makes it. Chinese, Japanese and Korean names are known by their surnames instead.
"""

import re
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Final
from zlib import crc32

WEIGHTS: Final = 1 << 16
FILTER_PLACES: Final = 1 << 19
_MASK: Final = FILTER_PLACES - 1
COMMON: Final = 1
LISTED: Final = 2
STEPS_A_UNIT: Final = 32  # A weight of 32 in the file is one unit of log odds.
MAX_CHARACTERS: Final = 100
MAX_WORDS: Final = 7
NAME_WORDS_MAX: Final = 4  # Of a field that is only called a name.
# What a word that is in no dictionary takes away at most, what a listed name gives, and what any word may.
_UNLISTED_MIN: Final = -0.7
_LISTED_SCORE: Final = 2.0
_LIMIT: Final = 3.0
_GROUPS: Final = (3, 4)

# Letters of any script with their marks, and what stands inside names.
_SHAPE: Final = re.compile(r"[^\W\d_][^\d_@/\\:;<>{}\[\]()=+*&%$#!?\"|~^]*\Z")
_BREAK: Final = re.compile(r"[\s\-‐‑–·・,]+")


def _list_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES: Final = _list_words(
    "dr prof professor mr mrs ms miss mx sir dame lord lady rev fr hr frau herr mme mlle m sr sra srta don dona "
    "doña dott dott.ssa sig sig.ra ing dipl dipl.-ing mag univ univ.prof bsc b.sc msc m.sc ba b.a ma m.a beng "
    "b.eng meng mba phd ph.d md m.d jd esq jr sr. ii iii iv cpa rn dds dvm med h.c emer obermedizinalrat"
)
_PARTICLES: Final = _list_words(
    "de da do dos das di del della dello der den des du d la le las los el al ul van von vom zu zum zur af av ten "
    "ter te bin bint ibn ben bat abu abd y e i und of the st o' mac mc ap ab san"
)
_SILENT: Final = _TITLES | _PARTICLES  # They say nothing.
# A word that begins small and is no particle, or has a capital inside that is not that of McDonald or DeShawn.
_UNLIKE: Final = re.compile(
    r"(?:^|\s)(?!(?:"
    + "|".join(map(re.escape, sorted(_SILENT)))
    + r")\b)[a-zß-öø-ÿ]|[^\W\d_A-Z]{4}[A-Z]|[a-z][A-Z][a-z]+[A-Z]"
)
# Two to four plain words: what most names are, and nothing above.
_ORDINARY: Final = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+){1,3}\Z")
# Names of modules and hosts; abbreviations beside words, as in `Paris CDG`.
_DOTTED: Final = re.compile(r"(?<!\b[Dd]ott)(?<=[a-z0-9])\.[a-z]{2}")
_ABBREVIATED: Final = re.compile(r"(?=.*[a-z])(?:.* )?[A-Z]{2,}(?![^ .,])")
_COMPANIES: Final = _list_words(
    "llc ltd limited inc incorporated gmbh corp corporation plc llp pty bv nv kg ohg ug sarl sas srl kft oyj foundation"
)
# First words of names of places.
_PLACES: Final = _list_words(
    "san santa santo sankt saint st sao são new los las el port fort mount north south east west upper lower lake"
)

# The surnames of nine in ten Chinese, as both sides of the strait write them, and of Koreans in Hangul and Han.
_HAN_SURNAMES: Final = frozenset(
    "王李张張刘劉陈陳杨楊赵趙黄黃周吴吳徐孙孫胡朱高林何郭马馬罗羅梁宋郑鄭谢謝韩韓唐冯馮于董萧蕭程曹袁邓鄧许許傅沈曾彭吕呂苏蘇卢盧蒋蔣蔡贾賈丁魏薛叶葉阎閻余潘杜戴夏钟鍾"
    "汪田任姜范方石姚谭譚廖邹鄒熊金陆陸郝孔白崔康毛邱秦江史顾顧侯邵孟龙龍万萬段雷钱錢汤湯尹黎易常武乔喬贺賀赖賴龚龔文"
)
_JAPANESE_SURNAMES: Final = _list_words(
    "佐藤 鈴木 高橋 田中 伊藤 渡辺 渡邊 山本 中村 小林 加藤 吉田 山田 佐々 山口 松本 井上 木村 "
    "斎藤 斉藤 清水 山崎 阿部 池田 橋本 山下 石川 中島 前田 藤田 後藤 小川 岡田 村上 長谷 近藤 "
    "石井 坂本 遠藤 青木 藤井 西村 福田 太田 三浦 藤原 岡本 松田 中川 中野 原田 小野 田村 竹内 "
    "金子 和田 中山 石田 上田 森田 柴田 酒井 工藤 横山 宮崎 宮本 内田 高木 安藤 谷口 大野 丸山 "
    "今井 高田 藤本 武田 村田 上野 杉山 増田"
)
_HANGUL_SURNAMES: Final = frozenset(
    "김이박최정강조윤장임한오서신권황안송류유홍전고문양손배백허남심노하곽성차주우구민진지엄채원천방공현함변염여추도소석선설마길연위표명기반라왕금옥육인맹제모탁국어은편용"
)
_HAN: Final = re.compile(r"[\u4e00-\u9fff々]{2,5}\Z")
_HAN_PARTED: Final = re.compile(r"[\u4e00-\u9fff々]{1,3}[ \u3000][\u3040-\u30ff\u4e00-\u9fff々]{1,4}\Z")
_KANA: Final = re.compile(r"[\u3040-\u30ff]{2,8}[ \u3000・][\u3040-\u30ff・]{2,12}\Z")
_HANGUL: Final = re.compile(r"[\uac00-\ud7a3]{2,4}\Z")


class Evidence(Enum):
    """What the field says, before its value is asked: how high the bar is, in units of log odds."""

    FIRST_OR_LAST = "the field is named as a part of a name"
    PERSON = "the field is named as a person, or stands among what persons have"
    NAME_ONLY = "the field is called a name, of whom or what nobody says"


_FIRST_OR_LAST, _PERSON, _NAME_ONLY = Evidence


def is_person_name(text: object, evidence: Evidence) -> bool:
    """Whether a value looks like a person's name. Never raises. Cost: 2 us of two listed words, 12 us of others."""
    if not isinstance(text, str):
        return False
    # Most values of fields that may name a person: words, addresses and ids in small letters.
    if "a" <= text[:1] <= "z" and evidence is not _FIRST_OR_LAST and text.partition(" ")[0] not in _PARTICLES:
        return False
    if _ORDINARY.match(text):
        words = text.lower().split()
    else:
        text = text.strip()
        if not _has_shape(text, evidence):
            return False
        if text[0] >= "\u3040" and (decided := _read_east_asian(text, evidence)) is not None:
            return decided
        words = [word.strip(".'’`") for word in _BREAK.split(text.lower())]
        if len(words) > MAX_WORDS:
            return False
    if evidence is _NAME_ONLY and (words[0] in _PLACES or _ABBREVIATED.match(text)):
        return False
    telling = [f"^{word}$".encode() for word in words if len(word) > 1 and word not in _SILENT]
    if not telling or not _COMPANIES.isdisjoint(words):
        return False
    return _weigh(telling, evidence, is_parted=" " in text)


def _has_shape(text: str, evidence: Evidence) -> bool:
    if not 1 < len(text) <= MAX_CHARACTERS:
        return False
    if not _SHAPE.match(text) or _DOTTED.search(text):
        return False
    return evidence is _FIRST_OR_LAST or not _UNLIKE.search(text)


def _weigh(words: list[bytes], evidence: Evidence, *, is_parted: bool) -> bool:
    """Of words in lower case between `^` and `$`, which say more than others. `is_parted`: by blanks."""
    lists = [find_lists(word) for word in words]
    common_count = sum(found & COMMON for found in lists)
    if evidence is _NAME_ONLY and (common_count or not 1 < len(words) <= NAME_WORDS_MAX):
        return False
    if evidence is _PERSON:
        if is_parted and 1 < len(words) <= 3 and all(found & LISTED for found in lists):
            return True  # Words too, but all of them names: Heather Pages.
        if common_count == len(words) or (common_count and not is_parted):
            return False
        if not common_count and LISTED in lists and len(words) <= 3:
            return True  # As below, whatever the others score.
    scores = [_score(word, found) for word, found in zip(words, lists, strict=True)]
    total = sum(scores)
    if evidence is _FIRST_OR_LAST:
        return total > -1.5 - 0.5 * len(words) and (len(words) < 3 or total > -2)
    if evidence is _NAME_ONLY:
        return total >= 2.2
    if lists[0] == LISTED and 1 < len(words) <= 3 and min(scores) > -2.5:
        return True  # A surname may be a word: Grace Hopper.
    return total >= (0.5 if is_parted and len(words) > 1 else 1.4) and (
        total >= 3 or not common_count or min(scores) > -1
    )


def find_lists(word: bytes) -> int:
    """Whether a word is in the dictionaries (COMMON), among the listed names (LISTED), both or neither. One word in 30
    is taken for a listed one that is not."""
    first, second, third = list_places(word)
    _, filters = _load()
    return (
        filters[first >> 2] >> ((first & 3) << 1)
        & filters[second >> 2] >> ((second & 3) << 1)
        & filters[third >> 2] >> ((third & 3) << 1)
        & (COMMON | LISTED)
    )


def list_places(word: bytes) -> tuple[int, int, int]:
    """Of a word in the filters, whose places have a bit for each list."""
    whole = crc32(word)
    return whole & _MASK, (whole >> 13) & _MASK, (whole * 0x9E3779B1 >> 20) & _MASK


def list_groups(word: bytes) -> list[int]:
    """Of a word, the places of its weights."""
    return [
        crc32(word[start : start + size]) & WEIGHTS - 1 for size in _GROUPS for start in range(len(word) - size + 1)
    ]


def _score(word: bytes, lists: int) -> float:
    """Log odds that it is a person's name rather than a word."""
    if lists == LISTED:
        return _LISTED_SCORE
    weights, _ = _load()
    total = sum([weights[place] for place in list_groups(word)])
    score = max(-_LIMIT, min(_LIMIT, total / STEPS_A_UNIT))
    return score if lists & COMMON else max(score, _UNLISTED_MIN)


@cache
def _load() -> tuple[memoryview, bytes]:
    data = files("sensor.sensitive").joinpath("words", "persons.bin").read_bytes()
    return memoryview(data)[:WEIGHTS].cast("b"), data[WEIGHTS:]


def _read_east_asian(text: str, evidence: Evidence) -> bool | None:
    """By the surname; None of other scripts."""
    if _HANGUL.match(text):
        return evidence is Evidence.FIRST_OR_LAST or (evidence is Evidence.PERSON and text[0] in _HANGUL_SURNAMES)
    if _HAN.match(text):
        has_surname = text[0] in _HAN_SURNAMES or text[:2] in _JAPANESE_SURNAMES
        return evidence is Evidence.FIRST_OR_LAST or (evidence is Evidence.PERSON and has_surname)
    if _HAN_PARTED.match(text) or _KANA.match(text):
        return evidence is not Evidence.NAME_ONLY or text[:2] in _JAPANESE_SURNAMES
    return None
