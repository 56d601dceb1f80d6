exec maildev --ip 127.0.0.1 --web "$PORT" --smtp $SECOND_PORT
