set -eu
cat >supervisor.conf <<CONFIG
[supervisord]
nodaemon=true
[inet_http_server]
port=127.0.0.1:$PORT
username=ops
password=wheel-42-turn
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:idle]
command=sleep 600
CONFIG
exec supervisord -c supervisor.conf
