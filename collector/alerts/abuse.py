"""Abuse in words: a title and a clear sentence or two of a signal, and how soon to look."""

from dataclasses import dataclass
from typing import Final

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.signal import AbuseSignal, Basis
from collector.alerts.wording import format_span, format_time

_BASES = {
    Basis.PRIOR: "what is ordinary for one nobody knows",
    Basis.PEERS: "what nearly all of its peers stay below",
    Basis.ENDPOINT: "twice what all callers of the endpoint together took before",
    Basis.HISTORY: "what it did on past days",
    Basis.SEASON: "what it did on past days",
}
_SOURCES_NAMED = 5
REFUSED: Final = "refused"  # Detail of calls of functions.
ANSWERED: Final = "answered; until then staff alone was let in"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """Of one kind. `{count}`, `{where}` and `{detail}` are filled in."""

    title: str
    count: str  # What was counted, after its number.
    risk: str  # OWASP API Security Top 10.
    advice: str


_WORDS = {
    AlertKind.ENUMERATION: _Words(
        title="reads {count} different objects of {where}",
        count="objects it had not touched before",
        risk="API1:2023",
        advice="Check that the caller may see these objects; revoke its credential if not.",
    ),
    AlertKind.BULK_READING: _Words(
        title="takes {count} records of {where}",
        count="records that its calls returned",
        risk="API6:2023",
        advice="Check that the caller may export; limit how many records a page may hold.",
    ),
    AlertKind.OBJECT_PROBING: _Words(
        title="reads objects of {count} others, such as {where}",
        count="others whose objects it read: owners who alone read them until then, and objects that nobody had read",
        risk="API1:2023",
        advice="Check that the API asks whose an object is before it answers.",
    ),
    AlertKind.CREDENTIAL_STUFFING: _Words(
        title="was refused {count} logins at {where}",
        count="refused logins",
        risk="API2:2023",
        advice="Block the addresses, and look at logins from them that succeeded.",
    ),
    AlertKind.CODE_GUESSING: _Words(
        title="guessed {count} codes at {where}",
        count="refused codes",
        risk="API2:2023",
        advice="Limit the attempts of an account and make its code invalid.",
    ),
    AlertKind.CREDENTIAL_SHARING: _Words(
        title="calls from {count} new networks",
        count="networks (/24, /48) it had not come from before",
        risk="API2:2023",
        advice="Revoke the credential unless its owner knows these places.",
    ),
    AlertKind.CREDENTIAL_ROTATION: _Words(
        title="goes through {count} credentials, one after the other",
        count="credentials or sessions, each new to the address, used for a short time and dropped before the next",
        risk="API2:2023",
        advice="Limit calls by address and account, not by credential alone; revoke these, and find out where they "
        "come from: logins of the same account, or a leak.",
    ),
    AlertKind.RESOURCE_EXHAUSTION: _Words(
        title="goes on after {count} calls were turned away",
        count="calls answered 429 or 503",
        risk="API4:2023",
        advice="Block the caller, or ask its owner to heed Retry-After.",
    ),
    AlertKind.RESOURCE_CONSUMPTION: _Words(
        title="takes most of what {where} gives",
        count="ordinary calls' worth",
        risk="API4:2023",
        advice="Limit what one caller may take in calls, time and bytes; block it if nobody knows it.",
    ),
    AlertKind.FUNCTION_PROBING: _Words(
        title="calls functions that others like it do not, such as {where}",
        count="calls of functions that hardly anybody else calls",
        risk="API5:2023",
        advice="Look at what it called and was not refused; check that the API asks who may call these.",
    ),
    AlertKind.INJECTION: _Words(
        title="sends payloads of attacks ({detail}) to {where}",
        count="different payloads of attacks",
        risk="API8:2023",
        advice="Block the caller, and look at what its calls that were not refused returned.",
    ),
    AlertKind.SCANNING: _Words(
        title="looks for {count} paths that do not exist",
        count="paths it had not asked for before, none of which exists",
        risk="API9:2023",
        advice="Block the address, and look at what it found.",
    ),
}


def grade_abuse(signal: AbuseSignal) -> Severity:
    """A notice is low, one subject high. Less sure is a crowd, of which nobody may have told us, and who is let in
    among staff, for it may be new there; scanners send payloads to every service, and are high where one worked."""
    if signal.is_notice:
        return Severity.LOW
    is_crowd = signal.kind is AlertKind.ENUMERATION and not signal.consumer
    is_tried = signal.kind is AlertKind.INJECTION and not signal.confirmation
    is_let_in = signal.kind is AlertKind.FUNCTION_PROBING and signal.detail == ANSWERED
    return Severity.MEDIUM if is_crowd or is_tried or is_let_in else Severity.HIGH


def title_abuse(signal: AbuseSignal) -> str:
    """One line: who does what where."""
    words = _WORDS[signal.kind]
    who = signal.consumer or "A crowd of callers"
    title = words.title.format(
        count=f"{signal.count:,}", where=signal.endpoint_label or "the API", detail=signal.detail
    )
    return f"{who} {title}"


def name_risk(kind: AlertKind) -> str:
    """The OWASP id of what a kind is evidence for."""
    return _WORDS[kind].risk


def name_counted(kind: AlertKind) -> str:
    """What a kind counts, after its number; empty where it is none of abuse."""
    return _WORDS[kind].count if kind in _WORDS else ""


def advise_abuse(kind: AlertKind) -> str:
    """What to do, one sentence."""
    return _WORDS[kind].advice


def explain_abuse(signal: AbuseSignal) -> str:
    """Observed, the ceiling and where it comes from, the risk, what to do, the loss."""
    words = _WORDS[signal.kind]
    what = f"{words.count} ({signal.detail})" if signal.detail else words.count
    sentence = (
        f"{signal.count:,} {what} in the {format_span(signal.seconds)} up to {format_time(signal.time)}, where "
        f"{signal.ceiling:,} is the most by {_BASES[signal.basis]} (OWASP {words.risk}). "
    )
    if signal.walk:
        sentence += f"In order: {signal.walk}. "
    if signal.confirmation:
        sentence += f"One of them worked, it seems: {signal.confirmation}. "
    sentence += words.advice
    if not signal.consumer:
        sentence += " The alert's evidence says what the callers share."
    if signal.sources and not signal.consumer:
        named = ", ".join(source.partition(":")[2] for source in signal.sources[:_SOURCES_NAMED])
        sentence += f" The busiest addresses: {named}."
    if signal.is_notice:
        sentence += " A notice only: too little is known yet of what is ordinary here."
    if signal.loss_ratio > 0:
        sentence += (
            f" The sensors that see it lost {signal.loss_ratio:.1%} of their calls, so there were probably more."
        )
    return sentence
