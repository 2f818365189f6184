"""The events that `ecapture record` wrote."""

import base64
import hashlib
import json

from product import expect


class Recording:
    def __init__(self, file):
        with open(file) as lines:
            events = [json.loads(line) for line in lines]
        # The first line is the head.
        self.data = [event for event in events if "dir" in event]
        self.closes = [event for event in events if "close" in event]

    def of(self, pid, direction):
        return [event for event in self.data if event["pid"] == pid and event["dir"] == direction]

    def digests(self, pid, direction):
        """SHA-256 of what each connection of a process carried in one direction, without any gap, sorted."""
        connections = {}
        for event in self.of(pid, direction):
            payload = payload_of(event)
            # A freed session's address may be given to a new one; its socket is another.
            offset, digest = connections.get((event["session"], event.get("sock")), (0, hashlib.sha256()))
            expect(event["offset"] == offset, f"a gap of {event['offset'] - offset} bytes at {offset}")
            digest.update(payload)
            connections[event["session"], event.get("sock")] = (offset + len(payload), digest)
        return sorted(digest.hexdigest() for _, digest in connections.values())


def payload_of(event):
    return event["text"].encode() if "text" in event else base64.b64decode(event["base64"])
