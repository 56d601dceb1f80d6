set -eu
devpi-init --serverdir "$PWD/server" --no-root-pypi
exec devpi-server --serverdir "$PWD/server" --host 127.0.0.1 --port "$PORT"
