"""Makes the lines of one capture comparable with those of another: whoever they are of and whenever it was.

Process and thread ids, ports and times become names. What several connections print is in no order, nor what the
two directions of one do; so the lines stand by connection and direction, and these are sorted.
"""

import json
import re

# Times of the capture, what is made of the ids that follow, and the order in which connections were first seen.
# "program" is there if the process still was when its first event was read, which is a matter of time, too; and so is
# what a response says about its request, which is decoded by another actor.
LEFT_OUT = ["ts_ns", "end_ns", "time", "pid", "tid", "uuid", "program", "connection", "exchange", "pairing", "request",
            "first_byte_ns", "total_ns"]


def normalised(lines, servers):
    """The text to compare, of connections with `servers`: a port and a name of each."""
    streams = {}
    for line in lines:
        # A line about a whole exchange has nothing that its messages do not have, and comes when one was late.
        if line["kind"] != "exchange" and (server := server_of(line, servers)):
            side = "client" if (line["direction"] == "write") == line["dst"].endswith(f":{server}") else "server"
            client = line["src"] if line["dst"].endswith(f":{server}") else line["dst"]
            key = (servers[server], side, line["comm"], line["direction"], client)
            streams.setdefault(key, []).append(without_ids(line, server, servers[server], client))
    # A client's port tells streams apart, and is no part of what is compared.
    texts = ["\n".join([" ".join(key[:4]), *streams[key]]) for key in streams]
    return "\n\n".join(sorted(texts)) + "\n"


def server_of(line, servers):
    for side in ("src", "dst"):
        port = line.get(side, "").rpartition(":")[2]
        if port in servers:
            return port
    return None


def without_ids(line, server, name, client):
    kept = {key: value for key, value in line.items() if key not in LEFT_OUT}
    text = json.dumps(kept)
    text = text.replace(f"127.0.0.1:{server}", name).replace(client, "CLIENT")
    # The time at which a server answered.
    return re.sub(r'\["([Dd]ate)", "[^"]*"\]', r'["\1", "TIME"]', text)
