"""AMQP 0-9-1 over TLS: `amqp.py PORT`.

Publishes messages of several sizes and reads them back. Prints what went each way as a JSON object of lengths and
digests, as the TLS socket took and gave it.
"""

import hashlib
import json
import ssl
import sys

import pika

WAYS = {"write": bytearray(), "read": bytearray()}


class Socket(ssl.SSLSocket):
    def send(self, data, flags=0):
        sent = super().send(data, flags)
        WAYS["write"] += bytes(data[:sent])
        return sent

    def recv(self, size=1024, flags=0):
        data = super().recv(size, flags)
        WAYS["read"] += data
        return data


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = Socket
    parameters = pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]), ssl_options=pika.SSLOptions(context))
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for message in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 2000):
        channel.basic_publish("", queue, message)
        while (got := channel.basic_get(queue, auto_ack=True))[0] is None:
            pass
        assert got[2] == message
    connection.close()
    print(json.dumps({way: [len(data), hashlib.sha256(data).hexdigest()] for way, data in WAYS.items()}))


main()
