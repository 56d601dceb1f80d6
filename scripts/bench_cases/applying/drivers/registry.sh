set -eu
cat >registry.yml <<CONFIG
version: 0.1
storage: {filesystem: {rootdirectory: $PWD/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$PORT"}
CONFIG
exec docker-registry serve registry.yml
