exec radicale --server-hosts "127.0.0.1:$PORT" --storage-filesystem-folder collections \
    --auth-type none --rights-type authenticated
