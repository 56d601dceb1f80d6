set -eu
mkdir files
for name in notes minutes plan; do echo text >"files/$name.txt"; done
exec rclone rcd --rc-no-auth --rc-addr "127.0.0.1:$PORT" --config rclone.conf --cache-dir cache
