"""Real clients and servers over loopback, recorded between them: gRPC's C core, Node, curl and nginx."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from concurrent import futures

import grpc
import pytest

from scripts.ports import take_port
from sensor.http.grpc import RpcProtocol, StreamingKind
from sensor.http.hpack import HuffmanStrings
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.heads import UNKNOWN_METHOD, UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Chunk
from tests.sensor.http.recorder import Recorder, Recording

pytestmark = pytest.mark.e2e

CALLS_EACH = 23
STRINGS = HuffmanStrings()


def read(recording: Recording, *, skip: int = 0) -> tuple[Http2Connection, list[StreamCall]]:
    """Calls of a recording, joined after `skip` pieces."""
    connection = Http2Connection(STRINGS, is_joined=skip > 0)
    calls: list[StreamCall] = []
    positions = [0, 0]
    for place, (direction, data, time_ns) in enumerate(recording.said):
        if place >= skip:
            connection.take_piece(direction, Chunk(positions[direction], data, time_ns), calls)
        positions[direction] += len(data)
    connection.close(recording.said[-1][2], calls)
    return connection, calls


class Service(grpc.GenericRpcHandler):
    """One method of each kind, one that fails, and one that is asked for by name only."""

    def service(self, details):
        method = details.method.rpartition("/")[2]
        if not details.method.startswith("/shop.v1.Orders/"):
            return None
        return {
            "Get": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "List": grpc.unary_stream_rpc_method_handler(lambda request, context: iter([request] * 3)),
            "Put": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"%d" % sum(1 for _ in requests)),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
        }.get(method)

    @staticmethod
    def _fail(request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")


@pytest.fixture(scope="module")
def grpc_recording():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    recorder = Recorder(("127.0.0.1", port))
    with grpc.insecure_channel(f"127.0.0.1:{recorder.port}") as channel:
        for number in range(CALLS_EACH):
            body = b"x" * (number * 997 % 30_000)
            metadata = [("authorization", f"Bearer token-{number % 3}"), ("x-request", str(number))]
            orders = "/shop.v1.Orders/"
            channel.unary_unary(orders + "Get")(body, metadata=metadata)
            list(channel.unary_stream(orders + "List")(body, metadata=metadata))
            channel.stream_unary(orders + "Put")(iter([body, b"a"]), metadata=metadata)
            list(channel.stream_stream(orders + "Chat")(iter([b"a", body]), metadata=metadata))
            for method in ("Fail", "Missing"):
                with pytest.raises(grpc.RpcError):
                    channel.unary_unary(orders + method)(b"", metadata=metadata)
    server.stop(0).wait()
    recorder.close()
    (recording,) = recorder.recordings
    return recording


def test_grpc_core_is_read_exactly(grpc_recording):
    connection, calls = read(grpc_recording)
    assert len(calls) == connection.counts.told == 6 * CALLS_EACH
    assert connection.counts.losses == connection.counts.broken_blocks == connection.counts.orphan_responses == 0
    seen = Counter()
    for call in calls:
        assert isinstance(call.request, StreamRequest) and call.rpc is not None
        assert call.rpc.protocol is RpcProtocol.GRPC
        assert (call.request.head.method, call.status_code, call.is_aborted, call.is_lossy) == (
            "POST",
            200,
            False,
            False,
        )
        assert call.request.head.get(b"authorization").startswith(b"Bearer token-")
        assert 0 < call.started_ns <= call.answered_ns <= call.ended_ns
        counts = (call.request_messages, call.response_messages)
        seen[call.rpc.service, call.rpc.method, call.grpc_status, call.streaming, counts] += 1
    assert seen == {
        ("shop.v1.Orders", "Get", 0, StreamingKind.UNARY, (1, 1)): CALLS_EACH,
        ("shop.v1.Orders", "List", 0, StreamingKind.SERVER, (1, 3)): CALLS_EACH,
        ("shop.v1.Orders", "Put", 0, StreamingKind.CLIENT, (2, 1)): CALLS_EACH,
        ("shop.v1.Orders", "Chat", 0, StreamingKind.BIDIRECTIONAL, (2, 2)): CALLS_EACH,
        ("shop.v1.Orders", "Fail", 7, StreamingKind.UNARY, (1, 0)): CALLS_EACH,
        ("shop.v1.Orders", "Missing", 12, StreamingKind.UNARY, (1, 0)): CALLS_EACH,
    }


def test_grpc_core_joined_late_is_counted_by_placeholder(grpc_recording):
    """Its indices never change, so its paths stay unknown; they are told apart all the same."""
    truth = {call.stream: call for call in read(grpc_recording)[1]}
    joined, right = 0, Counter()
    for skip in range(20, len(grpc_recording.said) - 40, 41):
        connection, calls = read(grpc_recording, skip=skip)
        assert connection.counts.broken_blocks == 0
        assert connection.counts.told == connection.counts.requests
        meanings: dict[object, str] = {}
        for call in calls:
            expected = truth[call.stream]
            assert isinstance(call.request, StreamRequest) and isinstance(expected.request, StreamRequest)
            path = call.request.head.path
            assert path in (expected.request.head.path, UNKNOWN_PATH)
            assert call.status_code in (expected.status_code, 0)
            assert call.grpc_status in (expected.grpc_status, None)
            if path == UNKNOWN_PATH:
                assert call.has_unknown_fields
                assert (
                    meanings.setdefault(call.request.unknown, expected.request.head.path) == expected.request.head.path
                )
            joined += 1
            right["path"] += path == expected.request.head.path
            right["status"] += call.status_code == 200
        if len(calls) > 12:
            # As many keys as methods, for their fields are all indexed.
            assert len(set(meanings.values())) <= len(meanings) <= 12
    assert joined > 500
    assert right["status"] == joined


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.05)


NODE_SERVER = """
const http2 = require('http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  const path = headers[':path'];
  const respond = () => {
    stream.respond({':status': path.startsWith('/missing') ? 404 : 200, 'content-type': 'application/json',
                    'x-trace': String(Math.random())}, {waitForTrailers: path.startsWith('/trailers')});
    stream.on('wantTrailers', () => stream.sendTrailers({'x-sum': '1'}));
    stream.end('{"a": 1}'.repeat(path.length * 40));
  };
  stream.on('error', () => {});
  stream.resume();
  if (path.startsWith('/slow')) setTimeout(respond, 200); else respond();
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""
NODE_CLIENT = """
const http2 = require('http2');
const session = http2.connect('http://127.0.0.1:' + process.argv[1]);
const paths = ['/items', '/missing/1', '/trailers', '/items?page='];
let left = 0;
const done = () => { if (--left === 0) session.close(); };
for (let i = 0; i < 60; i++) {
  left++;
  const post = i % 3 === 0;
  const stream = session.request({':method': post ? 'POST' : 'GET', ':path': paths[i % 4] + (i % 4 === 3 ? i : ''),
    'authorization': 'Bearer token-' + i % 5, 'x-n': String(i)});
  stream.on('close', done); stream.on('error', () => {}); stream.resume();
  if (post) stream.end('body'.repeat(i * 300)); else stream.end();
}
left++;
const slow = session.request({':path': '/slow'});
slow.on('error', () => {}); slow.on('close', done); slow.end();
setTimeout(() => slow.close(http2.constants.NGHTTP2_CANCEL), 60);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_is_read_exactly():
    server = subprocess.Popen(["node", "-e", NODE_SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        recorder = Recorder(("127.0.0.1", int(server.stdout.readline())))
        subprocess.run(["node", "-e", NODE_CLIENT, str(recorder.port)], check=True, timeout=60)
        recorder.close()
    finally:
        server.kill()
        server.communicate()
    (recording,) = recorder.recordings
    connection, calls = read(recording)
    assert connection.counts.losses == connection.counts.broken_blocks == 0
    seen = Counter()
    for call in calls:
        assert isinstance(call.request, StreamRequest)
        head = call.request.head
        seen[head.method, head.path, call.status_code, call.is_aborted] += 1
        assert call.response_content_type == ("application/json" if call.status_code else "")
        if call.status_code:
            assert call.response_bytes > 8 * 40 * len(head.path)
    assert seen == {
        ("POST", "/items", 200, False): 10, ("GET", "/items", 200, False): 20,
        ("POST", "/missing/1", 404, False): 5, ("GET", "/missing/1", 404, False): 10,
        ("POST", "/trailers", 200, False): 5, ("GET", "/trailers", 200, False): 10,
        ("GET", "/slow", 0, True): 1,
    }  # fmt: skip


# Go's encoder indexes every field, so that a header which differs in each request turns its table over.
GO_BOTH = """
package main

import ("fmt"; "io"; "net"; "net/http"; "os"; "strings"; "sync"; "time")

func main() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	answer := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Trace", r.Header.Get("X-Trace"))
		if strings.HasPrefix(r.URL.Path, "/missing") { w.WriteHeader(404) }
		io.WriteString(w, strings.Repeat("x", len(r.URL.Path) * 100))
	}
	server := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(answer)}
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	go server.Serve(listener)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	var port int
	fmt.Scan(&port)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols}, Timeout: time.Minute}
	for round := 0; round < 60; round++ {
		var group sync.WaitGroup
		for worker := 0; worker < 4; worker++ {
			group.Add(1)
			go func() {
				defer group.Done()
				number := round * 4 + worker
				path := []string{"/items", "/missing", "/users/me", "/search?q=x"}[number % 4]
				method := []string{"GET", "DELETE", "POST"}[number % 3]
				url := fmt.Sprintf("http://127.0.0.1:%d%s", port, path)
				request, _ := http.NewRequest(method, url, strings.NewReader(strings.Repeat("b", number * 50)))
				request.Header.Set("X-Trace", fmt.Sprint("trace-", number))
				request.Header.Set("Authorization", fmt.Sprint("Bearer token-", number % 5))
				response, err := client.Do(request)
				if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}()
		}
		group.Wait()
	}
}
"""


@pytest.fixture(scope="module")
def go_recording(tmp_path_factory):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    directory = tmp_path_factory.mktemp("go")
    (directory / "both.go").write_text(GO_BOTH)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    command = ["go", "build", "-o", str(directory / "both"), str(directory / "both.go")]
    subprocess.run(command, check=True, timeout=300, env=environment)
    both = subprocess.Popen([directory / "both"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert both.stdin is not None and both.stdout is not None
    recorder = Recorder(("127.0.0.1", int(both.stdout.readline())))
    both.communicate(f"{recorder.port}\n", timeout=120)
    assert both.returncode == 0
    recorder.close()
    return [recording for recording in recorder.recordings if recording.said]  # It opens more than it uses.


def read_trace(call: StreamCall) -> bytes:
    assert isinstance(call.request, StreamRequest)
    return call.request.head.get(b"x-trace")


def test_go_is_read_exactly(go_recording):
    seen, traces = Counter(), set()
    for recording in go_recording:
        connection, calls = read(recording)
        assert connection.counts.losses == connection.counts.broken_blocks == 0
        for call in calls:
            assert isinstance(call.request, StreamRequest) and not call.is_lossy and not call.is_aborted
            seen[call.request.head.method, call.request.head.path, call.status_code] += 1
            traces.add(read_trace(call))
    assert traces == {b"trace-%d" % number for number in range(240)}
    assert sum(seen.values()) == 240
    for path, status in (("/items", 200), ("/missing", 404), ("/users/me", 200), ("/search", 200)):
        for method in ("GET", "DELETE", "POST"):
            assert seen[method, path, status] == 20


def test_go_joined_late_heals_and_is_never_wrong(go_recording):
    recording = max(go_recording, key=lambda each: len(each.said))
    truth = {call.stream: call for call in read(recording)[1]}
    late = Counter()
    for skip in range(10, len(recording.said) // 2, 17):
        connection, calls = read(recording, skip=skip)
        assert connection.counts.broken_blocks == 0
        first = min(call.stream for call in calls)
        for call in calls:
            expected = truth[call.stream]
            assert isinstance(call.request, StreamRequest) and isinstance(expected.request, StreamRequest)
            head, right = call.request.head, expected.request.head
            assert head.path in (right.path, UNKNOWN_PATH)
            assert head.method in (right.method, UNKNOWN_METHOD)
            assert call.status_code in (expected.status_code, 0)
            assert read_trace(call) in (read_trace(expected), b"")
            if call.stream > first + 2 * 60:
                late["calls"] += 1
                late["known"] += (head.path, head.method) == (right.path, right.method)
    assert late["calls"] > 300
    assert late["known"] / late["calls"] > 0.9


@pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("nginx") is None, reason="curl or nginx is not installed"
)
def test_curl_and_nginx_are_read_exactly(tmp_path):
    port = take_port()
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f"types {{ application/json json; }} server {{ listen 127.0.0.1:{port}; http2 on; root {tmp_path}; }} }}\n"
    )
    server = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        wait_for(port)
        recorder = Recorder(("127.0.0.1", port))
        base = f"http://127.0.0.1:{recorder.port}"
        urls = [f"{base}/{name}" for name in ("a.json?b=c", "none", "a.json") * 5]
        command = ["curl", "-s", "--http2-prior-knowledge", "-H", "X-Api-Key: key-0123456789", "-o", "/dev/null"]
        subprocess.run([*command, *urls], check=True, timeout=60, stdout=subprocess.DEVNULL)
        recorder.close()
    finally:
        server.terminate()
        server.wait()
    (recording,) = recorder.recordings
    connection, calls = read(recording)
    assert connection.counts.losses == connection.counts.broken_blocks == 0
    seen = Counter()
    for call in calls:
        assert isinstance(call.request, StreamRequest)
        head = call.request.head
        assert head.get(b"x-api-key") == b"key-0123456789"
        seen[head.path, head.query, call.status_code, call.response_content_type] += 1
    assert seen == {
        ("/a.json", "b=c", 200, "application/json"): 5,
        ("/a.json", "", 200, "application/json"): 5,
        ("/none", "", 404, "text/html"): 5,
    }
