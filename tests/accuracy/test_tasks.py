"""The accuracy tasks on evaluation data named by APIDAE_EVAL_DIR; skipped, saying so, where it is absent."""

import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sensor.describe.attacks.core_rules import load_core_rules
from tests.accuracy import abuse
from tests.accuracy.__main__ import main

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_auth_meets_its_bar(tmp_path):
    source = Path(str(EVALUATION)) / "auth" / "auth_dev.jsonl"
    assert main(["auth", str(source), str(tmp_path / "out")]) == 0
    gold = [json.loads(line) for line in source.read_text("utf-8").split("\n") if line]
    found = [json.loads(line) for line in (tmp_path / "out").read_text("utf-8").split("\n") if line]
    exact = sum(sorted(a["auth"]) == sorted(b["auth"]) for a, b in zip(gold, found, strict=True))
    assert exact / len(gold) >= 0.95


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_hpack_stories_are_read_whole(tmp_path):
    sources = sorted((Path(str(EVALUATION)) / "protocol" / "hpack").rglob("*.jsonl.xz"))
    assert sources
    for source in sources:
        assert main(["hpack", str(source), str(tmp_path / "out")]) == 0
        with lzma.open(source, "rt", encoding="utf-8", newline="\n") as lines:
            gold = [json.loads(line) for line in lines]
        found = [json.loads(line) for line in (tmp_path / "out").read_text("utf-8").split("\n") if line]
        for story, answer in zip(gold, found, strict=True):
            expected = [
                [list(pair) for headers in case["headers"] for pair in headers.items()] for case in story["cases"]
            ]
            assert [case["headers"] for case in answer["cases"]] == expected, story["story"]


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_abuse_is_found_and_nobody_else_accused(tmp_path, monkeypatch):
    """A day of 305 honest actors and 24 attacks; rows leave every 30 s, which is a third of the work."""
    monkeypatch.setattr(abuse, "POLL_NS", 30 * 10**9)
    gold, source, target = tmp_path / "gold", tmp_path / "in", tmp_path / "out"
    directory = Path(str(EVALUATION))
    (stored,) = (directory / "abuse").glob("*.jsonl.xz")
    shutil.copy(stored.with_suffix("").with_name(stored.stem + ".truth.json"), tmp_path / "gold.truth.json")
    with (
        lzma.open(stored, "rt", encoding="utf-8", newline="\n") as lines,
        gold.open("w", encoding="utf-8") as labelled,
        source.open("w", encoding="utf-8") as plain,
    ):
        for line in lines:
            labelled.write(line)
            call = json.loads(line)
            plain.write(json.dumps({name: call[name] for name in call if name not in ("label", "actor")}) + "\n")
    assert main(["abuse", str(source), str(target)]) == 0
    score = [sys.executable, "abusescore.py", str(gold), str(target)]
    answer = json.loads(subprocess.run(score, cwd=directory, check=True, capture_output=True, text=True).stdout)
    assert answer["recall"] >= 0.92
    with gold.open(encoding="utf-8", newline="\n") as lines:
        calls = [json.loads(line) for line in lines]
    attackers = {actor for call in calls if call["label"] for actor in (call["ip"], call["tok"])}
    accused = [json.loads(line) for line in target.read_text("utf-8").split("\n") if line]
    assert {alert["tok"] or alert["ip"] for alert in accused} <= attackers


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_templates_do_not_get_worse(tmp_path):
    """Floors just under what is measured with this seed and cap: F1 .915, over-merge .028, under-merge .069.

    The bar, on ten times the traffic, is F1 .90, over-merge .02, under-merge .08.
    """
    directory = Path(str(EVALUATION))
    gold, source, target = tmp_path / "gold", tmp_path / "in", tmp_path / "out"
    generate = ["pathgen.py", "--split", "dev", "--seed", "1", "--cap", "500", "--out", str(gold)]
    subprocess.run([sys.executable, *generate], cwd=directory, check=True, capture_output=True)
    with gold.open(encoding="utf-8", newline="\n") as lines, source.open("w", encoding="utf-8") as file:
        for line in lines:
            case = json.loads(line)
            file.write(json.dumps({name: case[name] for name in ("spec", "m", "path", "status")}) + "\n")
    assert main(["templates", str(source), str(target)]) == 0
    score = [sys.executable, "pathscore.py", str(gold), str(target), "--json"]
    answer = subprocess.run(score, cwd=directory, check=True, capture_output=True, text=True)
    macro = json.loads(answer.stdout)["macro"]
    assert macro["F1"] >= 0.91
    assert macro["over_merge"] <= 0.03
    assert macro["under_merge"] <= 0.08


def test_templates_come_through_the_wire(tmp_path):
    lines = [{"spec": "s", "m": "GET", "path": f"/v1/users/{n}/orders", "status": 200} for n in range(60)]
    lines.append({"spec": "s", "m": "GET", "path": "/wp-login.php", "status": 404})
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["templates", str(source), str(target)]) == 0
    answers = [json.loads(line)["template"] for line in target.read_text().splitlines()]
    assert answers == ["/v1/users/{user_id}/orders"] * 60 + [None]


def test_unknown_task_is_named(capsys):
    assert main(["nothing", "a", "b"]) == 2
    assert "TASK is one of" in capsys.readouterr().err


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_sensitive_fields_are_found(tmp_path):
    """The bar is micro F1 .93 and 3 % of decoys; measured .994 and .3 %."""
    directory, target = Path(str(EVALUATION)), tmp_path / "out"
    bodies = directory / "pii" / "pii_dev.jsonl"
    assert main(["sensitive", str(bodies), str(target)]) == 0
    score = [sys.executable, "piiscore.py", str(bodies), str(target)]
    answer = json.loads(subprocess.run(score, cwd=directory, check=True, capture_output=True, text=True).stdout)
    assert answer["micro"]["F1"] >= 0.98
    flagged, decoys = answer["decoys_flagged"]
    assert flagged <= 0.01 * decoys


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_attacks_in_values_meet_their_bar_and_ordinary_queries_pass(tmp_path):
    """With the sensor's own rules at the least; the core rules make it better where they are installed.

    Of the core rules' own requests 0.93 are classified as labelled (docs/internals/detection-measured.md)."""
    directory = Path(str(EVALUATION)) / "attacks"
    answers = {}
    for name in ("httpparams_dev.jsonl", "legit_openappsec_queries.jsonl", "crs_regression.jsonl"):
        assert main(["attacks", str(directory / name), str(tmp_path / name)]) == 0
        score = [sys.executable, "attackscore.py", str(directory / name), str(tmp_path / name)]
        told = subprocess.run(score, cwd=directory.parent, check=True, capture_output=True, text=True).stdout
        answers[name] = json.loads(told)
    assert answers["httpparams_dev.jsonl"]["balanced_accuracy"] >= 0.94
    assert answers["crs_regression.jsonl"]["balanced_accuracy"] >= (0.92 if load_core_rules() else 0.75)
    assert answers["legit_openappsec_queries.jsonl"]["FPR_benign"] <= 0.002
