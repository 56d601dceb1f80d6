exec prometheus-pushgateway --web.listen-address="127.0.0.1:$PORT"
