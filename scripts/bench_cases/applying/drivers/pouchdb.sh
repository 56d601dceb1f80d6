exec pouchdb-server --host 127.0.0.1 --port "$PORT" --in-memory --no-stdout-logs
