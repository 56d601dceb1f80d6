exec node-red --port "$PORT" --userDir "$PWD/user"
