"""What each loss means and what a person can do about it, in plain words."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.inventory.coverage import Loss
from collector.inventory.sensor import Sensor

UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    meaning: str
    advice: str


_FAILED = _Words(
    meaning="The sensor failed on a call: a bug of Apidae, whose traceback is in the sensor's log.",
    advice="Report the traceback.",
)
_REQUEST = "request_"  # And what is wrong with it: `request_bad_host`.
_WORDS: dict[tuple[str, str], _Words] = {
    ("kernel", "ring_full"): _Words(
        meaning="Calls were faster than the sensor read them, and could not even be added up.",
        advice="Give the sensor more CPU (capture_budget_core_share) or a larger ring (ring_bytes).",
    ),
    ("kernel", "pipeline_too_deep"): _Words(
        meaning="More than 128 requests waited for their answers on one connection.",
        advice="Nothing to do: the calls are counted; a client that pipelines so deep is rare.",
    ),
    ("exchange", "request_head_lost"): _Words(
        meaning="A response came whose request was not seen: it was lost on its way, or older than the sensor.",
        advice="Right after a start it is normal; else give the sensor more CPU or a larger ring (ring_bytes).",
    ),
    ("describe", "failed"): _FAILED,
    ("recognise", "failed"): _FAILED,
    ("aggregate", "failed"): _FAILED,
    ("convert", "unwritable"): _Words(
        meaning="Rows of calls could not be written for the collector: a bug of Apidae, whose traceback is in the "
        "sensor's log.",
        advice="Report the traceback.",
    ),
    ("describe", _REQUEST): _Words(
        meaning="The bytes look like HTTP and break its grammar.",
        advice="Look who sends them: scanners do, and broken clients.",
    ),
    ("aggregate", "routes_full"): _Words(
        meaning="A window had more routes than the sensor keeps.",
        advice="Raise rows_per_window_count, or look who makes so many paths.",
    ),
    ("aggregate", "rows_full"): _Words(
        meaning="A window had more rows than the sensor keeps.",
        advice="Raise rows_per_window_count.",
    ),
    ("spool", "spool_full"): _Words(
        meaning="The collector was away for longer than the disk spool holds; the oldest went.",
        advice="Raise spool_bytes, or bring the collector back sooner.",
    ),
    ("spool", "disk_error"): _Words(
        meaning="The spool's disk refused to write.", advice="Look at the disk of state_dir on that node."
    ),
    ("spool", "unreadable"): _Words(
        meaning="Spooled rows could not be read back.", advice="Look at the disk of state_dir on that node."
    ),
    ("spool", "refused"): _Words(
        meaning="The collector refused batches; its log says why.",
        advice="Bring sensor and collector to the same version.",
    ),
}
_UNEXPLAINED_WORDS = _Words(
    meaning="A stage's account does not add up: something was lost without a name, a bug of Apidae.",
    advice="Report it with the sensor's log.",
)
_OTHER_WORDS = _Words(meaning="Dropped for the reason named.", advice="The sensor's log may say more.")


def list_losses(sensors: Iterable[Sensor]) -> tuple[Loss, ...]:
    """What every stage of every sensor dropped, by reason; an account that does not add up is a loss without a name."""
    losses = []
    for sensor in sensors:
        for stage in sensor.stages:
            named = [(reason, count) for reason, count in sorted(stage.dropped.items()) if count]
            unexplained = stage.seen - stage.used - stage.dropped_total
            if unexplained > 0:
                named.append((UNEXPLAINED, unexplained))
            losses += [_describe(sensor.node, stage.stage, reason, count) for reason, count in named]
    return tuple(losses)


def _describe(node: str, stage: str, reason: str, count: int) -> Loss:
    known = _REQUEST if stage == "describe" and reason.startswith(_REQUEST) else reason
    words = _UNEXPLAINED_WORDS if reason == UNEXPLAINED else _WORDS.get((stage, known), _OTHER_WORDS)
    return Loss(node=node, stage=stage, reason=reason, count=count, meaning=words.meaning, advice=words.advice)
