"""Addon of mitmproxy: prints method, URL, status and the SHA-256 of both bodies of each flow that it reads."""

import hashlib


def response(flow):
    def digest(message):
        return hashlib.sha256(message.content or b"").hexdigest()

    print(
        flow.request.method,
        flow.request.url,
        flow.response.status_code,
        digest(flow.request),
        digest(flow.response),
        flush=True,
    )
