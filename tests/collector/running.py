"""A real collector as a program, and a sensor's side of the stream, for tests that kill, restart and ask."""

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
from apidae.v1 import data_pb2, stream_pb2

from tests.with_constants import make_command

# On a host whose processors many tests share a stop takes longer. One that is cut off has another exit status, and
# leaves to the next start what was not stored in time.
PATIENCE: Mapping[str, object] = {
    "collector.server.run.STOP_SECONDS_MAX": 55.0,
    "collector.receiver.writer.LAST_SECONDS": 40.0,
}
METHOD = "/apidae.v1.CollectorService/Connect"


class RunningCollector:
    """Started by the constructor; `ready` holds its addresses. Kill only through this object."""

    def __init__(self, data_directory: Path, *flags: str, constants: Mapping[str, object] | None = None) -> None:
        command = [*make_command({**PATIENCE, **(constants or {})}), "collector"]
        command += ["--data-dir", str(data_directory), "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._collect_errors, daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self._reader.join()
            self.process.stdout.close()
            raise AssertionError(f"the collector ended with {self.process.returncode}: {''.join(self.errors)}")
        self.ready: dict[str, Any] = json.loads(line)

    def _collect_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.errors.append(line)

    def kill(self) -> None:
        """kill -9, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def get(self, path: str, token: str = "") -> httpx.Response:
        """GET under /api/v1."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"http://{self.ready['http']}/api/v1{path}", headers=headers, timeout=60)

    def get_page(self, path: str) -> httpx.Response:
        """GET what a browser shows, redirects followed."""
        return httpx.get(f"http://{self.ready['http']}{path}", timeout=30, follow_redirects=True)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("APIDAE_")}


def make_hello(node: str = "node-a", protocol: int = 1, cluster: str = "c", **fields: Any) -> stream_pb2.ConnectRequest:
    hello = stream_pb2.Hello(protocol=protocol, cluster=cluster, node=node, boot_id="boot-1", version="9.9", **fields)
    return stream_pb2.ConnectRequest(hello=hello)


class Conversation:
    """One stream, a message at a time; `hear` gives None at its end."""

    def __init__(self, address: str, hello: stream_pb2.ConnectRequest, token: str = "") -> None:
        self._channel = grpc.insecure_channel(address)
        self._said: queue.Queue[stream_pb2.ConnectRequest | None] = queue.Queue()
        connect = self._channel.stream_stream(
            METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=stream_pb2.ConnectResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        # The time is that of the whole stream, on a busy host.
        self._heard = connect(iter(self._said.get, None), metadata=metadata, timeout=600)
        self.say(hello)

    def say(self, message: stream_pb2.ConnectRequest) -> None:
        self._said.put(message)

    def hear(self) -> stream_pb2.ConnectResponse | None:
        return next(self._heard, None)

    def hear_policy(self) -> stream_pb2.Policy:
        """The next policy; whatever else comes before it is passed over."""
        while (response := self.hear()) is not None:
            if response.WhichOneof("message") == "policy":
                return response.policy
        raise AssertionError("the stream ended without a policy")

    def close(self) -> None:
        """The sensor leaves."""
        self._said.put(None)
        self._channel.close()


def talk(
    address: str, messages: Iterable[stream_pb2.ConnectRequest | bytes], token: str = ""
) -> list[stream_pb2.ConnectResponse]:
    """Send everything on one stream, and return all answers. Raises grpc.RpcError where the collector ends it."""
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        connect = channel.stream_stream(
            METHOD,
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=stream_pb2.ConnectResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return list(connect(iter(messages), metadata=metadata, timeout=60))


def wrap(batch: data_pb2.Batch) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(batch=batch)


def list_acks(responses: list[stream_pb2.ConnectResponse]) -> list[stream_pb2.Ack]:
    return [response.ack for response in responses if response.WhichOneof("message") == "ack"]
