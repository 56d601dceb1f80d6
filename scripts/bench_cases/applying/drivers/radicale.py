"""Keeps calendars in Radicale with the caldav library."""

import sys
from datetime import datetime, timedelta

import caldav

root = sys.argv[1]
for user in ("anna", "bruno", "carla"):
    client = caldav.DAVClient(url=root + "/", username=user, password="correct-horse")
    principal = client.principal()
    for name in ("work", "home"):
        calendar = principal.make_calendar(name=name)
        for number in range(6):
            start = datetime(2026, 11, 1 + number, 9)
            calendar.save_event(dtstart=start, dtend=start + timedelta(hours=1), summary=f"Meeting {number}")
        for event in calendar.events():
            event.load()
        calendar.search(start=datetime(2026, 11, 1), end=datetime(2026, 12, 1), event=True)
        calendar.events()[0].delete()
    principal.calendars()
