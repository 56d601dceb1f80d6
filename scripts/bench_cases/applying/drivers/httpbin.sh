exec gunicorn httpbin:app --bind "127.0.0.1:$PORT"
