exec syncthing serve --home="$PWD/home" --no-browser --no-default-folder --gui-address="127.0.0.1:$PORT" \
    --gui-apikey=abc123def456ghi789jkl
