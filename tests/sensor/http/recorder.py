"""A TCP proxy on loopback that writes down what passes, for tests with real clients and servers."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field

from sensor.http.reassembly import Direction


@dataclass
class Recording:
    """One connection: (direction, bytes, time) in the order they passed."""

    said: list[tuple[Direction, bytes, int]] = field(default_factory=list)


class Recorder:
    """Listens at `port` and passes every connection on to `target` until it is closed."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.recordings: list[Recording] = []
        self._target = target
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            recording = Recording()
            with self._lock:
                self.recordings.append(recording)
                self._sockets += [client, server]
            self._start(self._pump, client, server, Direction.FORWARD, recording)
            self._start(self._pump, server, client, Direction.BACKWARD, recording)

    def _pump(self, source, sink, direction: Direction, recording: Recording) -> None:
        try:
            while data := source.recv(65_536):
                with self._lock:
                    recording.said.append((direction, data, time.monotonic_ns()))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Ends all connections and waits for the threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for one in sockets:
            one.close()
