exec dynalite --host 127.0.0.1 --port "$PORT" --createTableMs 0 --deleteTableMs 0
