"""Edits flows in Node-RED over its admin API, as its editor does."""

import sys

import requests
import websocket

root = sys.argv[1]
session = requests.Session()
for _ in range(3):
    for path in ("", "settings", "settings/user", "flows", "flows/state", "icons", "theme"):
        session.get(f"{root}/{path}")
    session.get(root + "/nodes", headers={"Accept": "application/json"})
    session.get(root + "/nodes", headers={"Accept": "text/html"})
    session.get(root + "/context/global")
    for language in ("editor", "infotips", "node-red", "jsonata", "runtime"):
        session.get(f"{root}/locales/{language}", params={"lng": "en-GB"})
    socket = websocket.create_connection(root.replace("http", "ws") + "/comms")
    socket.close()
made = []
for number in range(6):
    flow = {"label": f"Flow {number}", "nodes": [], "configs": []}
    made.append(session.post(root + "/flow", json=flow).json()["id"])
for flow in made:
    session.get(f"{root}/flow/{flow}")
    session.put(f"{root}/flow/{flow}", json={"id": flow, "label": "Renamed", "nodes": [], "configs": []})
    session.get(f"{root}/context/flow/{flow}")
for flow in made[:3]:
    session.delete(f"{root}/flow/{flow}")
flows = session.get(root + "/flows").json()
session.post(root + "/flows", json=flows, headers={"Node-RED-Deployment-Type": "full"})
for module in ("node-red", "node-red/inject", "node-red/debug", "node-red/http", "node-red/mqtt", "node-red/split"):
    session.get(f"{root}/nodes/{module}", headers={"Accept": "application/json"})
session.put(root + "/nodes/node-red/split", json={"enabled": False})
session.put(root + "/nodes/node-red/split", json={"enabled": True})
