"""Comments on articles as isso's page does."""

import sys

import requests

root = sys.argv[1]
articles = [f"/blog/{name}" for name in ("first", "second", "third", "fourth", "fifth")]
requests.get(root + "/config")
for article in articles:
    session = requests.Session()
    session.headers["Origin"] = root
    made = []
    for number in range(6):
        answer = session.post(
            root + "/new", params={"uri": article}, json={"text": f"A good comment {number}", "title": "Article"}
        )
        made.append(answer.json()["id"])
    session.get(root + "/", params={"uri": article})
    for number in made:
        session.get(f"{root}/id/{number}", params={"plain": 1})
        session.put(f"{root}/id/{number}", json={"text": f"An edited comment {number}"})
        requests.post(f"{root}/id/{number}/like", json={})
        requests.post(f"{root}/id/{number}/dislike", json={})
    session.delete(f"{root}/id/{made[0]}")
    requests.post(root + "/count", json=articles)
    requests.post(root + "/preview", json={"text": "**bold**"})
