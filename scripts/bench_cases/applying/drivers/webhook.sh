set -eu
python - <<'PYTHON'
import json

names = ("deploy-shop", "deploy-blog", "rotate", "nightly", "tag-release", "purge-cdn", "sync-mirror", "reindex")
hooks = [{"id": name, "execute-command": "/bin/true", "response-message": "done"} for name in names]
with open("hooks.json", "w") as file:
    json.dump(hooks, file)
PYTHON
exec webhook -hooks hooks.json -ip 127.0.0.1 -port "$PORT"
