exec jupyter server --ip=127.0.0.1 --port="$PORT" --no-browser --allow-root --ServerApp.root_dir="$PWD" \
    --IdentityProvider.token=6b1f0c2d9e8a47b5a3c1d2e3f4a5b6c7
