"""Kubernetes by kubectl, and the collector's API through a port that kubectl forwards: all that an acceptance asks."""

import contextlib
import json
import queue
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

COMMAND_SECONDS: Final = 300.0
FORWARD_SECONDS: Final = 30.0
_PAGE: Final = 500
_PAUSE_SECONDS: Final = 0.3
_FORWARDED: Final = re.compile(r"127\.0\.0\.1:(\d+)")

Object = dict[str, Any]
T = TypeVar("T")


class AcceptanceError(Exception):
    """The run cannot go on; one sentence."""


def wait_for(question: Callable[[], T], seconds: float) -> T:
    """The first true answer, or the last one."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    return answer


class Kubernetes:
    """One cluster as one user of a kubeconfig; `namespace` is where workloads of the acceptance are."""

    def __init__(self, kubectl: str, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self._command = [kubectl, f"--kubeconfig={kubeconfig}"]

    def command(self, *arguments: str, namespace: str = "") -> list[str]:
        """What asks for that in a namespace."""
        return [*self._command, f"--namespace={namespace or self.namespace}", *arguments]

    def run(self, *arguments: str, namespace: str = "", text: str = "", seconds: float = COMMAND_SECONDS) -> str:
        """Its output. Raises AcceptanceError with its errors."""
        done = subprocess.run(
            self.command(*arguments, namespace=namespace),
            input=text,
            text=True,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            raise AcceptanceError(f"kubectl {' '.join(arguments)[:120]}: {done.stderr.strip() or done.stdout.strip()}")
        return str(done.stdout)

    def get(self, *arguments: str, namespace: str = "") -> Object:
        """An object or a list, as JSON."""
        found: Object = json.loads(self.run("get", *arguments, "-o", "json", namespace=namespace))
        return found

    def list_items(self, *arguments: str, namespace: str = "") -> list[Object]:
        """The items of a list."""
        return list(self.get(*arguments, namespace=namespace)["items"])

    def apply(self, objects: Sequence[Object]) -> None:
        """Creates or changes them. The server validates them; its OpenAPI document is not asked for."""
        self.run(
            "apply",
            "--validate=false",
            "-f",
            "-",
            text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )

    def read_lines(self, *what: str) -> list[Object]:
        """The JSON lines that a Pod has written; what else it wrote is skipped."""
        lines = []
        for line in self.run("logs", "--tail=-1", *what).splitlines():
            with contextlib.suppress(ValueError):
                if isinstance(said := json.loads(line), dict):
                    lines.append(said)
        return lines

    def wait_for_rollout(self, *kinds: str, namespace: str = "", seconds: int = 240) -> None:
        """Until workloads run as they are written."""
        for kind in kinds:
            self.run("rollout", "status", kind, f"--timeout={seconds}s", namespace=namespace, seconds=seconds + 30)

    def wait_for_job(self, name: str, seconds: int = 240) -> None:
        """Until a Job has ended. Raises AcceptanceError where it failed."""
        self.run("wait", "--for=condition=complete", f"job/{name}", f"--timeout={seconds}s", seconds=seconds + 30)


class Collector:
    """The API of the collector of one release, as its own certificate and token allow."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self._kubernetes, self.namespace = kubernetes, namespace
        pods = kubernetes.list_items("pods", "-l", "app.kubernetes.io/component=collector", namespace=namespace)
        if not pods:
            raise AcceptanceError(f"there is no collector in the namespace {namespace}: install the chart first")
        self.pod: str = pods[0]["metadata"]["name"]
        self.image: str = pods[0]["spec"]["containers"][0]["image"]
        self.release: str = pods[0]["metadata"]["labels"]["app.kubernetes.io/instance"]
        self._token = self.read_file("/etc/apidae/tokens/api-token").strip()
        authority = self.execute("cat /etc/apidae/authority/ca.crt 2>/dev/null || cat /etc/apidae/tls/ca.crt")
        self._trust = ssl.create_default_context(cadata=authority)
        self._forward: subprocess.Popen[str] | None = None
        self._client: httpx.Client | None = None

    def execute(self, script: str) -> str:
        """The output of a shell in its container."""
        return self._kubernetes.run("exec", self.pod, "--", "sh", "-c", script, namespace=self.namespace)

    def read_file(self, path: str) -> str:
        """A file of its container."""
        return self.execute(f"cat {path}")

    def run_command(self, command: str) -> Any:
        """`apidae COMMAND` in its container, as NOTES of the chart say; its JSON."""
        said = self.execute(f"apidae {command}")
        return json.loads(said or "null")

    def get(self, path: str, **parameters: Any) -> Any:
        """A JSON answer. Tries again while there is none. Raises AcceptanceError."""
        deadline = time.monotonic() + 2 * FORWARD_SECONDS
        while True:
            try:
                response = self._connect().get(f"/api/v1{path}", params=parameters)
                if response.status_code < 500:
                    response.raise_for_status()
                    return response.json()
                error = response.text[:200]
            except httpx.HTTPStatusError as problem:
                raise AcceptanceError(f"the collector's API: {problem.response.text[:300]}") from problem
            except (httpx.HTTPError, AcceptanceError) as problem:
                error = str(problem)
                self.close()
            if time.monotonic() > deadline:
                raise AcceptanceError(f"the collector's API gave no answer to {path}: {error}")
            time.sleep(_PAUSE_SECONDS)

    def list_items(self, path: str, **parameters: Any) -> list[Object]:
        """All pages."""
        items: list[Object] = []
        cursor: Mapping[str, str] = {}
        while True:
            page = self.get(path, limit=_PAGE, **parameters, **cursor)
            items += page["items"]
            if not page.get("next_cursor"):
                return items
            cursor = {"cursor": page["next_cursor"]}

    def _connect(self) -> httpx.Client:
        if self._client is None:
            command = self._kubernetes.command("port-forward", self.pod, ":https", namespace=self.namespace)
            self._forward = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            headers = {"Authorization": f"Bearer {self._token}"}
            url = f"https://localhost:{_read_port(self._forward)}"
            self._client = httpx.Client(base_url=url, headers=headers, verify=self._trust, timeout=30)
        return self._client

    def close(self) -> None:
        """Ends the connection; the next question makes another."""
        if self._client is not None:
            self._client.close()
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()
        self._client = self._forward = None


def _read_port(forward: subprocess.Popen[str]) -> int:
    """The local port that kubectl forwards. Raises AcceptanceError where it says none in time."""
    lines: queue.Queue[str] = queue.Queue()
    out = forward.stdout

    def read() -> None:
        for line in out or ():
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    with contextlib.suppress(queue.Empty):
        if found := _FORWARDED.search(lines.get(timeout=FORWARD_SECONDS)):
            return int(found[1])
    forward.kill()
    raise AcceptanceError("kubectl forwards no port to the collector")
