exec glances --webserver --disable-webui --disable-check-update --bind 127.0.0.1 --port "$PORT"
