set -eu
mkdir -p logs/shop/prices
for number in 1 2 3 4 5 6; do echo finished >"logs/shop/prices/run-$number.log"; done
cat >scrapyd.conf <<CONF
[scrapyd]
bind_address = 127.0.0.1
http_port = $PORT
logs_dir = logs
eggs_dir = eggs
dbs_dir = dbs
CONF
exec scrapyd
