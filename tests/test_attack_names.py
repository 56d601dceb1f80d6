"""Both sides name attacks as the wire does."""

from apidae.v1 import data_pb2

from collector.core.kinds import CLASSES, count_classes, explain_evidence, read_evidence
from sensor.describe.attacks.classes import Attack, AttackClass, AttackConfidence, AttackEvidence, pack_payload


def test_classes_and_evidence_have_the_wires_numbers() -> None:
    names = {name.removeprefix("ATTACK_CLASS_").lower(): number for name, number in data_pb2.AttackClass.items()}
    assert {name: CLASSES.index(name) for name in CLASSES if name} == {
        name: number for name, number in names.items() if number
    }
    evidence = {name.removeprefix("ATTACK_EVIDENCE_"): number for name, number in data_pb2.AttackEvidence.items()}
    assert {one.name: int(one) for one in AttackEvidence if one} == {
        name: number for name, number in evidence.items() if number
    }
    assert all(explain_evidence(one) for one in AttackEvidence if one)


def test_what_a_sensor_packs_a_collector_reads() -> None:
    payloads = [
        pack_payload(Attack(kind, AttackConfidence.HIGH, hash_ << 8), AttackEvidence.LEAKED)
        for hash_, kind in enumerate(AttackClass, 1)
    ]
    assert count_classes(payloads) == ", ".join(f"1 {kind}" for kind in AttackClass)
    assert {read_evidence(payload) for payload in payloads} == {AttackEvidence.LEAKED}
    assert max(payloads) < 1 << 64
