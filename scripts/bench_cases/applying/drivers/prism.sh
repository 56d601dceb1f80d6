set -eu
cat >shop.yaml <<'YAML'
openapi: 3.0.3
info: {title: Shop, version: "1"}
paths:
  /ping: {get: &answer {responses: {"200": {description: ok, content: {application/json: {example: {id: 1, total: 9}}}}}}}
  /orders: {get: *answer, post: *answer}
  /orders/{orderId}: {get: *answer, put: *answer, delete: *answer}
  /orders/{orderId}/items: {get: *answer}
  /stores/{store}/stock/{sku}: {get: *answer, put: *answer}
  /reports/{year}/{month}: {get: *answer}
YAML
exec prism mock -h 127.0.0.1 -p "$PORT" shop.yaml
