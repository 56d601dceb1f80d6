set -eu
tiddlywiki wiki --init server
exec tiddlywiki wiki --listen host=127.0.0.1 "port=$PORT"
