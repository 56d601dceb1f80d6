set -eu
kinto init --ini kinto.ini --backend memory --cache-backend memory --host 127.0.0.1
exec kinto start --ini kinto.ini --port "$PORT"
