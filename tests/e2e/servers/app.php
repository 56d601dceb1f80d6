<?php
// The test application over PHP; see tests/e2e/application.py for what it answers. Under PHP-FPM the web server in front
// of it has the connections; else it serves them itself, over TLS, and the arguments are ADDRESS CERTIFICATE KEY.

function answer(string $method, string $path): array
{
    return match (true) {
        $path === '/orders' && $method === 'POST' => [201, '{"number": 1}'],
        str_starts_with($path, '/orders/') && $method === 'DELETE' => [204, null],
        str_starts_with($path, '/orders/') => [200, '{"state": "sent"}'],
        str_starts_with($path, '/users/') => [304, null],
        default => [404, '{}'],
    };
}

function write_answer(mixed $client, string $method, string $path): void
{
    [$status, $body] = answer($method, $path);
    $head = "HTTP/1.1 $status A\r\n";
    if ($body !== null) {
        $head .= "Content-Type: application/json\r\nContent-Length: " . strlen($body) . "\r\n";
    }
    fwrite($client, "$head\r\n" . ($method === 'HEAD' ? '' : $body));
}

// Takes the requests that are whole off a connection's bytes.
function serve(mixed $client, string $bytes): string
{
    while (preg_match('/^(\S+) ([^\s?]*).*?\r\n\r\n/s', $bytes, $head)) {
        $length = preg_match('/^Content-Length: *(\d+)/mi', $head[0], $field) ? (int) $field[1] : 0;
        if (strlen($bytes) < strlen($head[0]) + $length) {
            break;
        }
        $bytes = substr($bytes, strlen($head[0]) + $length);
        write_answer($client, $head[1], $head[2]);
    }
    return $bytes;
}

if (PHP_SAPI !== 'cli') {
    [$status, $body] = answer($_SERVER['REQUEST_METHOD'], strtok($_SERVER['REQUEST_URI'], '?'));
    http_response_code($status);
    header('Content-Type: application/json');
    echo $body;
    exit;
}

[, $address, $certificate, $key] = $argv;
$files = ['local_cert' => $certificate, 'local_pk' => $key];
$listener = stream_socket_server("tls://$address:0", context: stream_context_create(['ssl' => $files]));
preg_match('/\d+$/', stream_socket_get_name($listener, false), $port);
echo json_encode(['event' => 'ready', 'port' => (int) $port[0]]), "\n";
$clients = $waiting = [];
while (true) {
    $readable = [$listener, ...array_values($clients)];
    $none = null;
    stream_select($readable, $none, $none, null);
    foreach ($readable as $client) {
        if ($client === $listener) {
            if ($client = @stream_socket_accept($listener)) {
                stream_set_blocking($client, false);
                $clients[(int) $client] = $client;
                $waiting[(int) $client] = '';
            }
            continue;
        }
        $number = (int) $client;
        $waiting[$number] = serve($client, $waiting[$number] . fread($client, 65536));
        if (feof($client)) {
            fclose($client);
            unset($clients[$number], $waiting[$number]);
        }
    }
}
