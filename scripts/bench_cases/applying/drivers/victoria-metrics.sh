exec victoria-metrics -httpListenAddr="127.0.0.1:$PORT" -storageDataPath="$PWD/data"
