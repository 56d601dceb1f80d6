"""What ordinary text is: markup that runs nothing, prose, documents of many lines, and long padding. Pure.

People write of `select`, `JavaScript:` and `echo`, post code, and send HTML. Rules that look for words of a language
match that, so they count less there (`classifier`). Only texts that match a rule are looked at.
"""

import re
from typing import Final

TEXT_MAX: Final = 8_192  # Characters of one value that are read.
_TAIL: Final = 4_096  # Of those, at the end of a longer one: payloads stand behind padding.
_RUN: Final = re.compile(r"\b(\w{32})\w{32,}(\w{32})")

# Tags that format, with attributes that format or name. A link or image is of this site, or of HTTP.
_TAG: Final = (
    r"a|abbr|acronym|address|article|audio|aside|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|col|colgroup|dd|del|details|dfn|div|dl|"
    r"dt|em|figcaption|figure|font|footer|h[1-6]|header|hr|i|img|ins|kbd|li|main|mark|nav|ol|p|picture|pre|q|rp|rt|ruby|s|"
    r"samp|section|small|source|span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|th|thead|time|tr|track|tt|u|ul|var|video|wbr"
)
_NAMES: Final = r"class|id|title|alt|rel|target|width|height|lang|dir|align|valign|border|colspan|rowspan|loading|role"
_MORE_NAMES: Final = (
    r"start|reversed|name|open|color|bgcolor|face|size|download|controls|loop|muted|preload|kind|label|type|scope|srcset|sizes|"
    r"datetime|cellpadding|cellspacing|data-[\w-]+|aria-[\w-]+"
)
_ATTRIBUTE: Final = (
    rf"""(?:{_NAMES}|{_MORE_NAMES})(?:\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[\w%.-]+))?|"""
    r"""(?:href|src|cite)\s*=\s*(?:"(?:https?://|mailto:|tel:|[/#?.]|)[\w\s%&#;=?+,.~@!$()*/-]*(?::\d+[\w%&#;=?+,.~/-]*)?"|"""
    r"""'(?:https?://|mailto:|tel:|[/#?.]|)[\w\s%&#;=?+,.~@!$()*/-]*(?::\d+[\w%&#;=?+,.~/-]*)?')|"""
    r"""style\s*=\s*(?!.[^"'<>]*(?:script|url\s*\(\s*(?!https?://|/\w)))(?:"[\w\s%#.,;:!()/-]*"|'[\w\s%#.,;:!()/-]*')"""
)
_MARKUP: Final = re.compile(
    rf"""</(?:{_TAG})\s*>|<(?:{_TAG})(?:\s+(?:{_ATTRIBUTE}))*\s*/?>|<!--(?!\s*[#\[]|esi)[^<>]*?-->""", re.IGNORECASE
)
# Markup that begins by ending what stood before it, and what runs within a style.
_BREAKS: Final = re.compile(
    r"""^[^<]{0,40}["'`][^<\w]{0,4}>|^\s*(?:-->|</)|expression\s*\(|behaviou?r\s*:|@import""", re.IGNORECASE
)

_PUNCTUATION: Final = ".,;:!?()[]*_\"'`\u2019\u201c\u201d"
# Phrases in double quotes and words beside them, as people search.
_SEARCH: Final = re.compile(
    r"""\s*(?:[\w.,'-]+\s+)*"[^"=<>*;()]*"(?:\s+(?:"[^"=<>*;()]*"|[\w.,'+&|-]+))*\s*\Z""", re.IGNORECASE
)
_CODE: Final = re.compile(r"(?<![\w`)\]$])(`{1,2})([^\s`][^`\n]*)\1(?![\w`(])")
_WORDS_MIN: Final = 6
_LINES_MIN: Final = 4
_FUNCTION_WORDS_MIN: Final = 2
# Words that sentences have and neither SQL nor shells: English, Spanish, French, German, Portuguese, Italian, Russian.
_FUNCTION_WORDS: Final = """
the an of that this these those it its are was were be been has have had will would can could should may you
your yours we our us my me they their them he she his her which what how why about but so there here also more
most very just only because being does did don't doesn't i'm it's please thank thanks to with el la los las un
una que de del con para por como es en su más pero le les des une est pour dans qui sur pas avec du au ce
cette et je vous nous der die das und ist nicht mit für ein eine auf dem den zu im von sich auch wie os uma da
dos não em com mais il gli che di per non sono не на что по это как для из
"""
_FUNCTION_WORD_SET: Final = frozenset(_FUNCTION_WORDS.split())


def shorten(text: str) -> str:
    """At most TEXT_MAX characters: long runs of one kind are cut, then the middle is skipped."""
    if len(text) <= TEXT_MAX:
        return text
    text = _RUN.sub(lambda run: run[1] + run[2], text)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - _TAIL] + text[-_TAIL:]


def strip_markup(text: str) -> str:
    """`text` without tags and comments that only format; as it is where it breaks out of something."""
    if "<" not in text or _BREAKS.search(text):
        return text
    return _MARKUP.sub(" ", _MARKUP.sub(" ", text))  # Comments hold tags.


def strip_marks(text: str) -> str:
    """A document without the marks around its code."""
    return _CODE.sub(r" \2 ", text)


def is_search(text: str) -> bool:
    """Whether a text is phrases in double quotes, and words, which `AND` and `OR` may join."""
    return '"' in text and _SEARCH.match(text) is not None


def is_document(text: str) -> bool:
    """Whether a text is sentences, or has several lines or a block of code."""
    if text.count("\n") >= _LINES_MIN or "```" in text:
        return True
    words = [word.strip(_PUNCTUATION) for word in text.lower().split()]
    return len(words) >= _WORDS_MIN and len(_FUNCTION_WORD_SET.intersection(words)) >= _FUNCTION_WORDS_MIN
