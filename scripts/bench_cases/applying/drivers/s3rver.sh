exec s3rver --directory . --address 127.0.0.1 --port "$PORT" --allow-mismatched-signatures
