"""Writes tiddlers as TiddlyWiki's page does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.headers["X-Requested-With"] = "TiddlyWiki"
session.get(root + "/")
titles = [
    "Groceries",
    "Meeting notes",
    "Ideas",
    "Reading list",
    "Travel plans",
    "Garden",
    "Recipes",
    "Budget",
    "Birthdays",
    "Quotes",
]
for _ in range(3):
    session.get(root + "/status")
    session.get(root + "/recipes/default/tiddlers.json")
    for title in titles:
        path = f"{root}/recipes/default/tiddlers/{requests.utils.quote(title)}"
        session.put(path, json={"title": title, "text": "text", "tags": ["home"]})
        session.get(path)
for title in titles[:5]:
    session.delete(f"{root}/bags/default/tiddlers/{requests.utils.quote(title)}")
