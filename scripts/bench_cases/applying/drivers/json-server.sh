set -eu
node - >db.json <<'JAVASCRIPT'
const rows = (name) => Array.from({length: 39}, (_, n) => ({id: n + 1, title: `${name} ${n}`, postId: n % 5}));
console.log(JSON.stringify(Object.fromEntries(["posts", "comments", "albums", "todos"].map((name) => [name, rows(name)]))));
JAVASCRIPT
exec json-server --host 127.0.0.1 --port "$PORT" db.json
