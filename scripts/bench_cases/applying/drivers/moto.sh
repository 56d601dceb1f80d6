exec moto_server -H 127.0.0.1 -p "$PORT"
