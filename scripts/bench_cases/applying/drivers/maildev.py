"""Sends mails to MailDev and reads them over its API."""

import os
import smtplib
import sys
from email.message import EmailMessage

import requests

root = sys.argv[1]
with smtplib.SMTP("127.0.0.1", int(os.environ["SECOND_PORT"])) as server:
    for number in range(12):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = (
            "shop@example.org",
            f"reader{number}@example.org",
            f"Order {number}",
        )
        message.set_content("Thank you")
        message.add_alternative("<p>Thank you</p>", subtype="html")
        server.send_message(message)
for _ in range(3):
    requests.get(root + "/healthz")
    requests.get(root + "/config")
    mails = requests.get(root + "/email").json()
for mail in mails:
    requests.get(f"{root}/email/{mail['id']}")
    requests.get(f"{root}/email/{mail['id']}/html")
    requests.get(f"{root}/email/{mail['id']}/source")
for mail in mails[:6]:
    requests.delete(f"{root}/email/{mail['id']}")
