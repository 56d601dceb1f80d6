exec azurite-blob --blobHost 127.0.0.1 --blobPort "$PORT" --location "$PWD/data" --skipApiVersionCheck --silent
