"""HPACK: the RFC's own examples, joins at every block, hostile bytes, and another implementation's encoder."""

import copy
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.http import hpack as decoder_module
from sensor.http import hpack as huffman
from sensor.http.hpack import (
    _CACHE_BYTES,
    _CACHE_ENTRIES,
    ERROR_INDEX,
    ERROR_INTEGER,
    ERROR_SHORT,
    ERROR_STRING,
    MAX_TABLE_BYTES,
    STATIC_TABLE,
    HeaderBlock,
    HpackDecoder,
    HuffmanStrings,
    Placeholder,
)
from tests.accuracy.hpack import read_stories
from tests.accuracy.hpack_joins import judge_join
from tests.sensor.http.hpack_encoder import HUFFMAN_CODES, Encoder, Pair, encode_huffman, encode_string

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")
STRINGS = HuffmanStrings()  # Its cache is shared, as in a sensor.


def make_decoder(*, is_complete: bool = True) -> HpackDecoder:
    return HpackDecoder(STRINGS, is_complete=is_complete)


# RFC 7541, appendix C: (size of the table, blocks, what each holds).
_REQUESTS = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]  # fmt: skip
_DATES = (b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT")
_LOCATION = (b"location", b"https://www.example.com")
_RESPONSES = [
    [(b":status", b"302"), (b"cache-control", b"private"), (b"date", _DATES[0]), _LOCATION],
    [(b":status", b"307"), (b"cache-control", b"private"), (b"date", _DATES[0]), _LOCATION],
    [
        (b":status", b"200"), (b"cache-control", b"private"), (b"date", _DATES[1]), _LOCATION,
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]  # fmt: skip
APPENDIX_C = {
    "C.2.1": (4096, ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"], [[(b"custom-key", b"custom-header")]]),
    "C.2.2": (4096, ["040c2f73616d706c652f70617468"], [[(b":path", b"/sample/path")]]),
    "C.2.3": (4096, ["100870617373776f726406736563726574"], [[(b"password", b"secret")]]),
    "C.2.4": (4096, ["82"], [[(b":method", b"GET")]]),
    "C.3": (
        4096,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        _REQUESTS,
    ),
    "C.4": (
        4096,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        _REQUESTS,
    ),
    "C.5": (
        256,
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f"
            "7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b4851"
            "4b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        _RESPONSES,
    ),
    "C.6": (
        256,
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af2708"
            "7f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        _RESPONSES,
    ),
}


@pytest.mark.parametrize("example", APPENDIX_C)
def test_examples_of_the_rfc(example):
    size, blocks, expected = APPENDIX_C[example]
    decoder = make_decoder()
    if size != 4096:
        assert decoder.decode(Encoder().resize(size)).fields == []
    assert [decoder.decode(bytes.fromhex(block)).fields for block in blocks] == expected


def test_static_table_has_its_places():
    decoder = make_decoder()
    assert len(STATIC_TABLE) == 61
    for index, pair in enumerate(STATIC_TABLE, 1):
        assert decoder.decode(bytes([0x80 | index])).fields == [pair]


def test_huffman_codes_are_complete_and_those_of_the_other_implementation():
    assert sum(2 ** -len(code) for code in HUFFMAN_CODES) == 1
    other = hpack.Encoder()
    for byte in range(256):
        text = bytes([byte]) * 3
        assert other.encode([(text, text)], huffman=True)[1:] == encode_string(text, True) * 2
        assert STRINGS.decode(encode_huffman(text)) == text


@given(st.binary(max_size=300))
def test_huffman_round_trip(text):
    assert STRINGS.decode(encode_huffman(text)) == text
    assert huffman.encode_huffman(text) == encode_huffman(text)


@pytest.mark.parametrize(
    "coded",
    [
        b"\xff",  # Eight ones: more than padding may be.
        b"\x00\xff\xff",
        b"\x18",  # Padding of zeros: 'a' is 00011, then 000.
        b"\xff\xff\xff\xff",  # The end of string, spelled out.
        bytes.fromhex("fffffffc"),
    ],
)
def test_huffman_strings_that_are_none(coded):
    assert STRINGS.decode(coded) is None


def test_huffman_cache_keeps_what_repeats_and_stays_small():
    strings = HuffmanStrings()
    repeated = encode_huffman(b"application/grpc")
    first = strings.decode(repeated)
    for number in range(4 * _CACHE_ENTRIES):
        strings.decode(encode_huffman(f"/hostile/{number}/{'x' * (number % 700)}".encode()))
        if number % 500 == 0:
            assert strings.decode(repeated) is first
        assert len(strings._new) <= _CACHE_ENTRIES
        assert strings._new_bytes <= _CACHE_BYTES + 5_000


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("80", ERROR_INDEX),
        ("be", ERROR_INDEX),  # 62, of an empty table.
        ("7f0000", ERROR_INDEX),
        ("ff", ERROR_SHORT),
        ("ffffffffffff01", ERROR_INTEGER),
        ("40", ERROR_SHORT),
        ("4003616263", ERROR_SHORT),
        ("400361", ERROR_SHORT),
        ("4081ff0161", ERROR_STRING),
        ("400161ff", ERROR_SHORT),
    ],
)
def test_broken_blocks_are_errors_and_lose_the_table(block, error):
    decoder = make_decoder()
    decoder.decode(bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572"))
    decoded = decoder.decode(bytes.fromhex(block.replace("be", "bf")))
    assert (decoded.fields, decoded.error) == ([], error)
    assert (decoder.is_complete, decoder.epoch, decoder.table_bytes) == (False, 1, 0)
    assert decoder.decode(b"\xbe").fields == [(Placeholder(1, -1, False), Placeholder(1, -1, True))]


def test_joined_decoder_tells_old_entries_apart_and_reads_new_ones():
    encoder = Encoder()
    old = [(b"x-old-a", b"1"), (b"x-old-b", b"2")]
    encoder.encode(old)
    decoder = make_decoder(is_complete=False)
    new = [(b"x-new", b"3"), (b"x-old-a", b"4")]
    first = decoder.decode(encoder.encode([*new, *old])).fields
    second = decoder.decode(encoder.encode([*old, *new, (b"x-more", b"5")])).fields
    a, b = Placeholder(0, -2, False), Placeholder(0, -1, False)
    unknown = [(a, Placeholder(0, -2, True)), (b, Placeholder(0, -1, True))]
    assert first == [(b"x-new", b"3"), (a, b"4"), *unknown]
    assert second == [*unknown, (b"x-new", b"3"), (a, b"4"), (b"x-more", b"5")]


def test_joined_decoder_is_complete_once_the_old_entries_are_gone():
    encoder, decoder = Encoder(), make_decoder(is_complete=False)
    decoder.decode(encoder.encode([(b"x-a", b"y" * 5_000)]))
    assert not decoder.is_complete  # Its size is not known.
    decoder.decode(encoder.resize(4_096) + encoder.encode([(b"x-b", b"y" * 3_000)]))
    assert decoder.is_complete  # 8,000 bytes were inserted: what was before them cannot be there.
    other = make_decoder(is_complete=False)
    other.decode(Encoder().resize(0))
    assert other.is_complete
    assert other.decode(b"\xbe").error == ERROR_INDEX


def test_largest_table_size_is_read():
    decoder = make_decoder()
    assert decoder.decode(Encoder().resize((1 << 32) - 1) + b"\x82").fields == [(b":method", b"GET")]


def test_own_bound_forgets_the_oldest_as_placeholders():
    encoder, decoder = Encoder(), make_decoder()
    decoder.decode(encoder.resize(1 << 20))
    pairs = [(b"x-%d" % number, b"v" * 1_000) for number in range(200)]
    for pair in pairs:
        decoder.decode(encoder.encode([pair]))
        assert decoder.table_bytes <= MAX_TABLE_BYTES
    fields = decoder.decode(encoder.encode(pairs)).fields
    known = [field == pair for field, pair in zip(fields, pairs, strict=True)]
    assert 50 < sum(known) < 70 and known == sorted(known)
    assert fields[0] == (Placeholder(0, 0, False), Placeholder(0, 0, True))
    # A value that alone is larger than what is held.
    big = (b"x-big", b"b" * 70_000)
    assert decoder.decode(encoder.encode([big])).fields == [big]
    assert isinstance(decoder.decode(encoder.encode([big])).fields[0][0], Placeholder)
    assert decoder.decode(encoder.encode([(b"after", b"1"), (b"after", b"1")])).fields == [(b"after", b"1")] * 2


def test_equal_blocks_are_one_object_until_the_table_changes():
    encoder, decoder = Encoder(), make_decoder()
    pairs = [(b":method", b"GET"), (b"x-a", b"1")]
    decoder.decode(encoder.encode(pairs))
    block = encoder.encode(pairs)
    once = decoder.decode(block)
    assert decoder.decode(block) is once
    decoder.decode(encoder.encode([(b"x-b", b"2")]))
    assert decoder.decode(block).fields != once.fields  # Index 62 is another entry now.
    for number in range(1_000):
        decoder.decode(encoder.encode([(b"x-c", b"%d" % number)], unindexed=frozenset((b"x-c",))))
        assert len(decoder._memo) <= decoder_module._MEMO_ENTRIES


NAMES = [b":path", b":method", b"x-a", b"x-b", b"x-c", b"cookie", b"grpc-timeout", b"user-agent"]
VALUES = st.sampled_from([b"", b"GET", b"/", b"v" * 20, b"w" * 200, b"x" * 1_500]) | st.binary(max_size=4)
BLOCKS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6),
        st.none() | st.sampled_from([0, 31, 64, 100, 500, 4_096, 65_536, 200_000]),
        st.booleans(),
        st.frozensets(st.sampled_from(NAMES), max_size=3),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(BLOCKS)
def test_no_join_is_ever_wrong(story):
    encoder, blocks, truth = Encoder(), [], []
    for pairs, size, is_huffman, unindexed in story:
        prefix = b"" if size is None else encoder.resize(size)
        blocks.append(prefix + encoder.encode(pairs, is_huffman=is_huffman, unindexed=unindexed))
        truth.append(pairs)
    whole = make_decoder()
    assert [whole.decode(block).fields for block in blocks] == truth
    for cut in range(len(blocks)):
        counts = judge_join(blocks, truth, cut, STRINGS)
        assert counts["wrong"] == counts["moved"] == 0


@settings(max_examples=200, deadline=None)
@given(BLOCKS)
def test_another_encoder_is_read_alike(story):
    """Differential: python-hyper's encoder writes, its decoder and ours read."""
    encoder, reference, ours = hpack.Encoder(), hpack.Decoder(), make_decoder()
    reference.max_allowed_table_size = 1 << 20
    for pairs, size, is_huffman, _ in story:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(pairs, huffman=is_huffman)
        assert ours.decode(block).fields == [tuple(pair) for pair in reference.decode(block, raw=True)] == pairs


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8), st.booleans())
def test_hostile_bytes_never_raise_and_agree_with_another_decoder(blocks, is_complete):
    decoder, reference = make_decoder(is_complete=is_complete), hpack.Decoder()
    reference.max_allowed_table_size = 1 << 28
    is_comparable = is_complete
    for block in blocks:
        decoded = decoder.decode(block)
        assert decoder.table_bytes <= MAX_TABLE_BYTES
        assert not (decoded.error and decoded.fields)
        if is_comparable:
            try:
                expected = [tuple(pair) for pair in reference.decode(block, raw=True)]
            except hpack.HPACKError:
                is_comparable = False
            else:
                # Integers of any length are read there, of up to six bytes here.
                assert decoded.error == ERROR_INTEGER or decoded.fields == expected


def read_evaluation() -> Iterator[tuple[str, list[bytes], list[list[Pair]]]]:
    paths = sorted((Path(str(EVALUATION)) / "protocol" / "hpack").rglob("*.jsonl.xz"))
    assert paths
    for path in paths:
        for story in read_stories(path):
            truth = [
                [(name.encode(), value.encode()) for pair in case["headers"] for name, value in pair.items()]
                for case in story["cases"]
            ]
            yield path.name, [bytes.fromhex(case["wire"]) for case in story["cases"]], truth


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_stories_are_read_whole_and_no_join_is_wrong():
    """Every block of every story; joins at 12 blocks (all of them: `python -m tests.accuracy hpack_joins`)."""
    counts: dict[str, Counter[str]] = {}
    chance = random.Random(7541)
    for name, blocks, truth in read_evaluation():
        decoder = make_decoder()
        assert [decoder.decode(block).fields for block in blocks] == truth
        cuts = range(1, len(blocks))
        for cut in cuts if len(cuts) <= 12 else chance.sample(cuts, 12):
            counts.setdefault(name, Counter()).update(judge_join(blocks, truth, cut, STRINGS))
    for name, count in counts.items():
        assert count["wrong"] == count["moved"] == 0, name
        assert count["late_known"] / count["late"] >= 0.8, name


def write_repeating_blocks(seed: int) -> list[bytes]:
    """Blocks that add to the table and name nothing of it, as nginx writes them, among such that do, and changes of
    its size; some entries are larger than the table."""
    source = random.Random(seed)
    literals = []
    for _ in range(6):
        count = source.randrange(1, 5)
        pairs = [(b"n%d" % source.randrange(9), b"v" * source.choice((1, 5, 60, 100))) for _ in range(count)]
        literals.append(b"".join(b"\x40\x02" + name + bytes([len(value)]) + value for name, value in pairs))
    blocks = []
    for _ in range(400):
        block = source.choice(literals)
        match source.randrange(8):
            case 0:
                block = bytes([0x80 | source.randrange(1, 66)]) + block
            case 1:
                block += b"\xbe"  # What it has added itself.
            case 2:
                block = b"\x3f" + bytes([source.choice((0, 40, 120))]) + block
        blocks.append(block)
    return blocks


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_blocks_that_repeat_change_the_table_as_when_they_are_read(
    seed: int, is_complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, states = write_repeating_blocks(seed), []
    repeats = 0
    original = HpackDecoder.repeat

    def count(self: HpackDecoder, block: bytes) -> HeaderBlock | None:
        nonlocal repeats
        found = original(self, block)
        repeats += found is not None
        return found

    for repeat in (count, lambda self, block: None):
        monkeypatch.setattr(HpackDecoder, "repeat", repeat)
        decoder = HpackDecoder(HuffmanStrings(), is_complete=is_complete)
        found = []
        for block in blocks:
            decoded = decoder.decode(block)
            table = decoder._entries, decoder._sizes, decoder.table_bytes, decoder._inserted
            found.append((decoded.fields, decoded.error, *map(copy.copy, table), decoder.is_complete, decoder.epoch))
        states.append(found)
    assert states[0] == states[1]
    assert repeats > 100
