exec pypi-server run -p "$PORT" -i 127.0.0.1 -a . -P . --backend simple-dir .
