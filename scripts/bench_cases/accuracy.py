"""All scores on evaluation data, through the product's own code (tests/accuracy), and the flaws and decoys of our own.

    APIDAE_EVAL_DIR=DIRECTORY scripts/bench accuracy [--only auth,sensitive]

DIRECTORY holds the evaluation data and their scorers, which are not part of this repository: `auth/auth_dev.jsonl`
with `authscore.py`, `pii/pii_dev.jsonl` with `piiscore.py`, `specs/dev` with `pathgen.py` and `pathscore.py`. Prints a
line of JSON for each; what is not there is named and left out. `flaws` needs none of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_TEMPLATE_CALLS = "5000"


def _run(task: str, source: Path, directory: Path) -> Path:
    """Answers of the product to a file of cases."""
    target = directory / f"{task}.out"
    subprocess.run([sys.executable, "-m", "tests.accuracy", task, str(source), str(target)], check=True)
    return target


def _score(scorer: Path, *arguments: str) -> str:
    command = [sys.executable, str(scorer), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure_auth(data: Path, directory: Path) -> dict[str, object]:
    """Kinds of credentials: exact sets, and whether there were any."""
    cases = data / "auth" / "auth_dev.jsonl"
    told = json.loads(_score(data / "authscore.py", str(cases), str(_run("auth", cases, directory))))
    return {name: value for name, value in told.items() if not isinstance(value, dict)}


def measure_sensitive(data: Path, directory: Path) -> dict[str, object]:
    """Kinds of sensitive data by field, and look-alikes that were flagged."""
    cases = data / "pii" / "pii_dev.jsonl"
    told = json.loads(_score(data / "piiscore.py", str(cases), str(_run("sensitive", cases, directory))))
    flagged, decoys = told["decoys_flagged"]
    return {"micro": told["micro"], "macro_f1": told["macro_F1"], "decoys_flagged": flagged, "decoys": decoys}


def measure_templates(data: Path, directory: Path) -> dict[str, object]:
    """Templates of paths."""
    gold = directory / "paths.jsonl"
    _score(data / "pathgen.py", "--split", "dev", "--seed", "1", "--cap", _TEMPLATE_CALLS, "--out", str(gold))
    told = json.loads(_score(data / "pathscore.py", str(gold), str(_run("templates", gold, directory)), "--json"))
    return {name: told[name] for name in ("specs", "requests", "macro")}


def measure_flaws(data: Path | None, directory: Path) -> dict[str, object]:
    """Services of our own through a running collector: flaws found, decoys flagged (tests/data/risk/cases.jsonl)."""
    from tests.collector.risk.judging import judge_cases
    from tests.collector.risk.traffic import load_cases

    rules = judge_cases(directory / "collector")
    flaws = [case for case in load_cases() if "expect" in case]
    decoys = [case for case in load_cases() if "expect" not in case]
    return {
        "flaws": len(flaws),
        "flaws_found": sum(set(case["expect"]) <= set(rules.get(case["id"], ())) for case in flaws),
        "decoys": len(decoys),
        "decoys_flagged": sum(bool(rules.get(case["id"])) for case in decoys),
    }


_MEASURES: dict[str, tuple[Callable[..., dict[str, object]], str]] = {
    "auth": (measure_auth, "auth/auth_dev.jsonl"),
    "sensitive": (measure_sensitive, "pii/pii_dev.jsonl"),
    "templates": (measure_templates, "specs/dev"),
    "flaws": (measure_flaws, ""),
}


def main() -> None:
    """Prints a line a task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="Tasks, with commas.")
    chosen = [name for name in parser.parse_args().only.split(",") if name]
    unknown = set(chosen) - set(_MEASURES)
    if unknown:
        sys.exit(f"accuracy: there is no task {min(unknown)!r}; name some of {', '.join(_MEASURES)}")
    data = Path(os.environ["APIDAE_EVAL_DIR"]) if "APIDAE_EVAL_DIR" in os.environ else None
    for name, (measure, needed) in _MEASURES.items():
        if chosen and name not in chosen:
            continue
        if needed and (data is None or not (data / needed).exists()):
            place = f"{data}/{needed}" if data is not None else f"APIDAE_EVAL_DIR/{needed}"
            print(json.dumps({"task": name, "skipped": f"{place} is not there; name the data by APIDAE_EVAL_DIR"}))
            continue
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps({"task": name, **measure(data, Path(scratch))}), flush=True)


if __name__ == "__main__":
    main()
