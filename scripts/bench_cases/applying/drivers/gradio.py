"""Calls a Gradio application with its own client."""

import sys

from gradio_client import Client

for _ in range(3):
    client = Client(sys.argv[1], verbose=False)
    for number in range(10):
        client.predict("ab", number, api_name="/repeat")
