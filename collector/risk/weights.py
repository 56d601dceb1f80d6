"""The weights of the formula: read once from `weights.json`, checked, frozen. A change of a figure there is a change of
its version, and every score says by which version it was computed."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

FILE = Path(__file__).parent / "weights.json"


class VolumeWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `least` at one record a day to `most` at `records_at_most`, by the logarithm."""

    least: float
    most: float
    records_at_most: int


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Factors between 0 and 1; docs/risk.md says what each means."""

    version: str
    sensitivity: Mapping[str, float]
    sensitivity_in_requests: float
    sensitivity_of_further_class: float
    authentication: Mapping[str, float]
    exposure: Mapping[str, float]
    enumerability: Mapping[str, float]
    volume: VolumeWeights
    spec: Mapping[str, float]
    findings: Mapping[str, float]
    findings_counted: int
    levels: Mapping[str, int]  # From this score on, highest first.


@lru_cache(maxsize=1)
def load_weights() -> Weights:
    """Those that came with this build."""
    return msgspec.json.decode(FILE.read_bytes(), type=Weights)
