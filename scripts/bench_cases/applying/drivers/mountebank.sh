exec mb start --port "$PORT" --nologfile --localOnly
