"""What a build tells of itself: events (``events``) and the displays that show them (``plain``, ``tty``, ``rawjson``)."""
