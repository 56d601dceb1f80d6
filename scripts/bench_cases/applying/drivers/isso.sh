set -eu
cat >isso.cfg <<CONFIG
[general]
dbpath = $PWD/comments.db
host = http://127.0.0.1:$PORT/
[server]
listen = http://127.0.0.1:$PORT
[guard]
enabled = false
CONFIG
exec isso -c isso.cfg run
