"""XML as values with names: bytes in, what the classifier reads out, and how many records it holds.

An element is its text, or where it has attributes or elements an object of them; elements of one name beside each other
are a list. A text beside others is named by its element, or as an attribute names it (`<field name="email">`). Prefixes
are left out. Expat parses (xml.etree); of a long list only the records that are looked at become values. What is cut or
broken gives what came before; a document that declares entities is not parsed.
"""

from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from sensor.bodies.markup import read_elements
from sensor.bodies.records import ENVELOPE_DEPTH_MAX, is_of_page, spread

ELEMENTS_MAX: Final = 4_000  # That become values; the classifier looks at no more.
DEPTH_MAX: Final = 40  # The classifier goes 32 deep.
_NAME_CHARACTERS_MAX: Final = 60
# Attributes that say what an element's text is.
_NAMING: Final = ("name", "key", "id")
_MARKS_OF_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class Elements(NamedTuple):
    """`values`: for the classifier, private to the node; `records`: None where nobody can tell."""

    values: object
    records: int | None
    is_list: bool


def read_xml(data: bytes, *, is_complete: bool) -> Elements | None:
    """None where there is no element. Never raises."""
    root, is_broken = _parse(data, is_complete=is_complete)
    if root is None or is_broken:
        values: list[object] = [dict(one) for one in read_elements(data.decode("utf-8", "replace"))]
        if root is not None:
            values.append({_strip(root.tag): _Converter().convert(root, 0)})
        return Elements(values, None, False) if values else None
    items = _find_list(root)
    converter = _Converter()
    if items is None:
        return Elements({_strip(root.tag): converter.convert(root, 0)}, 1, False)
    return Elements([converter.convert(item, 0) for item in spread(items)], len(items), True)


def _parse(data: bytes, *, is_complete: bool) -> tuple[Element | None, bool]:
    """The outermost element with all that was read of it, and whether something is wrong with the rest."""
    if data[:2] in _MARKS_OF_UTF_16:
        text: str | bytes = data.decode("utf-16", "replace")
        is_refused = "<!ENTITY" in text
    else:
        text = data
        is_refused = b"<!ENTITY" in data or b"\0" in data[:4]  # As UTF-16 without a mark, where none is found.
    if is_refused:
        return None, True
    parser: XMLPullParser[Element] = XMLPullParser(("start",))
    root: Element | None = None
    try:
        parser.feed(text)
        first = next(parser.read_events(), None)
        if first is not None and isinstance(first[-1], Element):
            root = first[-1]
        for _ in parser.read_events():  # An error stands behind the events before it.
            pass
        if is_complete:
            parser.close()
    except (ParseError, ValueError, LookupError):  # An encoding that is none.
        return root, True
    return root, False


def _find_list(root: Element) -> list[Element] | None:
    """The elements that are the answer; None where the document is one record. As find_records does it of JSON."""
    element = root
    for _ in range(ENVELOPE_DEPTH_MAX + 2):  # SOAP has two more around its answer.
        if not len(element):
            return None if element.attrib or (element.text or "").strip() else []
        tags = {child.tag for child in element}
        own = {tag for tag in tags if not is_of_page(_strip(tag))}
        if _strip(element.tag) == "Envelope":
            own = {tag for tag in tags if _strip(tag) == "Body"} or own
        if len(own) != 1:
            return None
        items = element.findall(own.pop())
        if len(items) > 1:
            return items if len(items[0]) or items[0].attrib else None
        element = items[0]
    return None


class _Converter:
    """Elements to values, ELEMENTS_MAX of them."""

    def __init__(self) -> None:
        self._left = ELEMENTS_MAX

    def convert(self, element: Element, depth: int) -> object:
        self._left -= 1
        text = (element.text or "").strip()
        if not len(element) and not element.attrib:
            return text
        found: dict[str, object] = {_strip(name): value for name, value in element.attrib.items()}
        if text:
            naming = next((found[name] for name in _NAMING if name in found), "")
            is_named = isinstance(naming, str) and 0 < len(naming) <= _NAME_CHARACTERS_MAX
            found[str(naming) if is_named else _strip(element.tag)] = text
        lists: set[str] = set()
        if depth < DEPTH_MAX:
            for child in element:
                if self._left <= 0:
                    break
                _add(found, lists, _strip(child.tag), self.convert(child, depth + 1))
        return found


def _add(found: dict[str, object], lists: set[str], name: str, value: object) -> None:
    """A further value of a name makes a list of them."""
    known = found.get(name)
    if known is None:
        found[name] = value
    elif name in lists and isinstance(known, list):
        known.append(value)
    else:
        found[name] = [known, value]
        lists.add(name)


def _strip(name: object) -> str:
    """A name without its namespace; comments and instructions have none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""
