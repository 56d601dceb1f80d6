"""Which words of paths leave a node: who must have been served them, for how long, and where they never do."""

from collections.abc import Iterable

import msgspec
import pytest

from sensor.core.calls import Origin
from sensor.routes.shared_use import (
    MAX_SIBLINGS,
    MIN_CALLERS,
    MIN_PRINCIPALS,
    MIN_RETURN_NS,
    MIN_SPAN_NS,
    SharedUse,
)
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import is_private_place, is_secret_place, load_vocabulary
from tests.sensor.records import START_NS, make_origin
from tests.sensor.routes.test_templating import SERVICE, _templater

MINUTE_NS = 60 * 1_000_000_000
HOUR_NS = MIN_SPAN_NS
ONE_ADDRESS = [make_origin(1, token) for token in range(101, 106)]
# What one address with five tokens could make readable once: surnames, passphrases, illnesses, files, methods.
PRIVATE_PATHS = (
    "/v1/users/kowalczyk", "/v1/unlock/correct-horse-battery-staple", "/login/password/sunshine",
    "/v1/diagnosis/chlamydia", "/v1/prescriptions/methotrexate", "/v1/religion/zoroastrian", "/tenants/zorblatt",
    "/v1/cities/timbuktuville", "/photos/wilhelminaphoto.jpg", "/zorp.v1.Blatt/GetKowalczyk", "/notes/kowalczyk",
    "/s/correct-horse-battery-staple", "/items/chlamydia", "/items/methotrexate", "/items/zoroastrian", "/zorblatt",
)  # fmt: skip


def call(
    templater: Templater, path: str, origin: Origin, time_ns: int = START_NS, status: int = 200
) -> tuple[int, list[str]]:
    """The hash of the last word of a path, and all texts that its route has now."""
    segments = templater.route(SERVICE, "h", "GET", path, status, origin, time_ns).route.segments
    return segments[-1].hash, [segment.text for segment in segments]


def serve(templater: Templater, path: str, origins: Iterable[Origin], over_ns: int = 2 * HOUR_NS) -> bool:
    """Has each origin call a path at the beginning and the end of a time; whether its last word is revealed."""
    origins = list(origins)
    for time_ns in (START_NS, START_NS + over_ns):
        for origin in origins:
            word, _ = call(templater, path, origin, time_ns)
    templater.apply_reveal([word])
    return bool(call(templater, path, origins[0], START_NS + over_ns)[1][-1])


def make_callers(count: int) -> list[Origin]:
    return [make_origin(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("path", PRIVATE_PATHS)
@pytest.mark.parametrize("over_ns", [MINUTE_NS, 30 * 24 * HOUR_NS], ids=["a minute", "a month"])
def test_one_address_with_five_tokens_reveals_nothing(path: str, over_ns: int) -> None:
    templater = _templater()
    serve(templater, path, ONE_ADDRESS, over_ns)
    told = call(templater, path, ONE_ADDRESS[0], START_NS + over_ns)[1]
    assert path.rpartition("/")[2] not in told and "GetKowalczyk" not in told


def test_callers_share_a_word_after_an_hour_and_its_route_keeps_its_id() -> None:
    templater = _templater()
    before = templater.route(SERVICE, "h", "GET", "/zorblatt", 200, make_origin(1), START_NS).route
    word = before.segments[0].hash
    for origin in make_callers(MIN_CALLERS):
        call(templater, "/zorblatt", origin, START_NS + HOUR_NS - 1)
    assert templater.apply_reveal([word]) == {}
    call(templater, "/zorblatt", make_origin(1), START_NS + HOUR_NS)
    assert templater.apply_reveal([word]) == {word: "zorblatt"}
    after = templater.route(SERVICE, "h", "GET", "/zorblatt", 200, make_origin(1), START_NS).route
    assert (after.route_id, after.segments[0].text) == (before.route_id, "zorblatt")
    assert "zorblatt" not in repr(templater.reveal)


@pytest.mark.parametrize(
    "origins",
    [
        make_callers(MIN_CALLERS - 1),
        [make_origin(network, 7) for network in range(1, 9)],  # One credential at many addresses.
        [make_origin(1, principal) for principal in range(101, 109)],
        # One person at three addresses, where the first one is used with three tokens.
        [make_origin(1, 101), make_origin(1, 102), make_origin(1, 103), make_origin(2, 101), make_origin(3, 101)],
        [make_origin(0, principal) for principal in range(101, 109)],  # Nobody knows where from.
    ],
    ids=["two", "one principal", "one network", "one person", "unknown"],
)
def test_networks_and_principals_both_count(origins: list[Origin]) -> None:
    assert not serve(_templater(), "/zorblatt", origins)
    assert serve(_templater(), "/zorblatt", [*origins, *make_callers(MIN_CALLERS)])


def test_behind_one_gateway_many_principals_must_return() -> None:
    def use_at(*days: float, count: int = MIN_PRINCIPALS, first: int = 0) -> SharedUse:
        use = SharedUse()
        for day in days:
            for principal in range(first, first + count):
                use.note(make_origin(1, principal + 1), START_NS + int(day * MIN_RETURN_NS))
        return use

    assert use_at(0, 1).is_shared
    assert not use_at(0, 0.9).is_shared
    assert not use_at(0, 1, count=MIN_PRINCIPALS - 1).is_shared
    # One client whose token is renewed each hour, for a month.
    use = SharedUse()
    for hour in range(24 * 30):
        for minute in range(0, 60, 20):
            use.note(make_origin(1, 1 + hash((hour, 7)) % 2**61), START_NS + hour * HOUR_NS + minute * MINUTE_NS)
    assert not use.is_shared
    # Thousands of users, of whom most come once, and some each day.
    use = SharedUse()
    for day in range(8):
        for number in range(2_000):
            name = number if number < 1_000 else (day, number)
            use.note(make_origin(1, 1 + hash((name, 3)) % 2**61), START_NS + day * MIN_RETURN_NS + number)
    assert use.is_shared


@pytest.mark.parametrize(
    "place",
    ["users", "patients", "diagnosis", "reset-password", "passwordReset", "unlock", "access_tokens", "employees"],
)
def test_no_word_is_revealed_where_it_says_something_of_a_person(place: str) -> None:
    templater = _templater()
    assert is_private_place(place)
    assert not serve(templater, f"/v1/{place}/zorblatt", make_callers(9))
    assert serve(templater, f"/v1/{place}/42/zorblin", make_callers(9))
    # Also where the same word is readable elsewhere.
    assert serve(templater, "/v1/orders/zorblatt", make_callers(9))
    assert not serve(templater, f"/v1/{place}/zorblatt", make_callers(9))
    assert not serve(templater, f"/v2/{place}/aardvark", make_callers(9))


@pytest.mark.parametrize("place", ["Users", "%75sers", "users;page=1", "users/", "users/.", "list-users", "by_name"])
def test_a_private_place_is_found_however_it_is_written(place: str) -> None:
    assert not serve(_templater(), f"/v1/{place}/zorblatt", make_callers(9))


def test_a_private_word_is_an_object_like_any_other() -> None:
    """The kernel computes it from the text."""
    templater = _templater()
    path = ("/v1/users/zorblatt", "/v1/users/zor%62latt")
    private = [templater.route(SERVICE, "h", "GET", one, 200, make_origin(), START_NS) for one in path * 2]
    public = templater.route(SERVICE, "h", "GET", "/v1/orders/zorblatt", 200, make_origin(), START_NS)
    assert {one.object_hash for one in private} == {public.object_hash}
    assert private[0].route.segments[-1].hash != public.route.segments[-1].hash


@pytest.mark.parametrize("place", ["password", "unlock", "pin", "secrets", "diagnosis", "religion", "passwordReset"])
def test_an_api_word_is_hidden_where_a_secret_may_stand_unless_it_is_done_there(place: str) -> None:
    templater = _templater()
    assert is_secret_place(place)
    assert not serve(templater, f"/v1/{place}/sunshine", make_callers(9))
    for text in ("change", "forgot", "reset", "search", "history", "{id}", "validate-token"):
        _, texts = call(templater, f"/v1/{place}/{text}".replace("{id}", "42.json"), make_origin())
        assert texts[-1] == text.replace("{id}", "{}.json")
    assert call(templater, "/v1/users/search", make_origin())[1][-1] == "search"
    assert call(templater, "/v1/weather/sunshine", make_origin())[1][-1] == "sunshine"


def test_words_of_a_place_with_many_words_are_values() -> None:
    words = [f"zor{letter}u{letter}a" for letter in "bcdfghjklmnpqr"]
    templater = _templater()
    for word in words[:MAX_SIBLINGS]:
        assert serve(templater, f"/v1/orders/{word}", make_callers(5))
    hashes = [call(templater, f"/v1/items/{word}", make_origin())[0] for word in words]
    for word in words:
        assert word in words[:MAX_SIBLINGS] or not serve(templater, f"/v1/items/{word}", make_callers(5))
    assert len(templater.apply_reveal(hashes)) == MAX_SIBLINGS
    # Words of the dictionary there are readable.
    assert serve(templater, "/v1/items/aardvark", make_callers(1))


def test_siblings_that_come_later_count_too() -> None:
    templater = _templater()
    hashes = [call(templater, f"/v1/items/zor{letter}ula", make_origin())[0] for letter in "bcd"]
    for time_ns in (START_NS, START_NS + HOUR_NS):
        for origin in make_callers(5):
            call(templater, "/v1/items/zorbula", origin, time_ns)
    for letter in "fghjklmnpqr":
        call(templater, f"/v1/items/zor{letter}ula", make_origin())
    assert templater.apply_reveal(hashes) == {}


def test_what_a_scanner_guesses_hides_no_served_word() -> None:
    templater = _templater()
    for letter in "bcdfghjklmnpqr":
        call(templater, f"/zor{letter}ula", make_origin(), status=404)
    assert serve(templater, "/zorblatt", make_callers(3))


def test_words_of_the_dictionary_are_revealed_to_one_consumer_and_names_are_not() -> None:
    templater = _templater()
    words = {text: call(templater, f"/zorblatt/{text}", make_origin())[0] for text in ("aardvark", "zorblatt")}
    assert templater.apply_reveal(words.values()) == {words["aardvark"]: "aardvark"}
    vocabulary = load_vocabulary()
    assert not vocabulary.is_api_word("aardvark")
    assert not vocabulary.is_dictionary_word("aardvark-7")
    assert vocabulary.is_dictionary_word("aardvark-staple-horse")
    assert not vocabulary.is_dictionary_word("correct-horse-battery-staple")
    assert not serve(templater, "/zorblatt/johnson-aardvark", make_callers(9))
    assert not serve(templater, "/v1/orders/johnsmith", make_callers(9))


@pytest.mark.parametrize(
    ("path", "workload", "is_revealed"),
    [
        ("/v2/zorblatt", "zorblatt-server", True),
        ("/v2/zorblatt-jobs", "zorblatt", True),
        ("/v2/zorblatt", "w", False),
        ("/v2/users/zorblatt", "zorblatt", False),
        ("/v2/johnson", "johnson", False),
        ("/zorblatt_api", "w", True),
        ("/v2/zorblatt_api", "w", False),
        ("/johnson_api", "w", False),
        ("/v2/mkdir", "w", True),
    ],
)
def test_one_consumer_reveals_what_the_service_or_programs_are_called(
    path: str, workload: str, is_revealed: bool
) -> None:
    templater, service = _templater(), msgspec.structs.replace(SERVICE, workload=workload)
    route = templater.route(service, "h", "GET", path, 200, make_origin(), START_NS).route
    assert bool(templater.apply_reveal([route.segments[-1].hash])) is is_revealed


@pytest.mark.parametrize("text", ["hepatitis", "chlamydia", "pregnant", "divorce", "homosexual", "bankrupt", "muslim"])
def test_words_about_persons_need_three_callers(text: str) -> None:
    assert not load_vocabulary().is_dictionary_word(text)
    assert not serve(_templater(), f"/zorblatt/{text}", make_callers(2))
    assert serve(_templater(), f"/zorblatt/{text}", make_callers(3))


def test_a_refused_word_counts_like_a_served_one_and_a_missing_one_does_not() -> None:
    templater = _templater()
    known = {"zorblatt": 403, "zorblam": 401, "zorblin": 302, "zorblok": 101}
    for text, status in (known | {"zorblux": 404, "zorblet": 500}).items():
        for time_ns in (START_NS, START_NS + HOUR_NS):
            for origin in make_callers(3):
                word, _ = call(templater, f"/{text}", origin, time_ns, status)
        assert bool(templater.apply_reveal([word])) is (text in known), status


def test_a_method_of_an_rpc_is_no_private_word_of_its_service() -> None:
    assert not is_private_place("shop.v1.Users")
    assert is_private_place("users.export.tokens")
    templater = _templater()
    method, _ = call(templater, "/shop.v1.Users/Zonk", make_origin())
    assert method == call(templater, "/v1/orders/Zonk", make_origin())[0]
    assert method != call(templater, "/v1/users/Zonk", make_origin())[0]
