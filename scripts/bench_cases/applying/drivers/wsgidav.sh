exec wsgidav --host 127.0.0.1 --port "$PORT" --root . --auth anonymous
