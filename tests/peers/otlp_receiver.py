"""A collector of OTLP made of the official classes: `otlp_receiver.py http|grpc PORT [ANSWER…]`, PORT 0 for any.
With KEY and CERTIFICATE in the environment it is over TLS.

Each ANSWER is for one request with spans, in order: `take`, `partial:N` (N spans are rejected), `STATUS[/SECONDS]` (an
HTTP status with Retry-After, or a gRPC code with RetryInfo) or `hang`. All later requests are taken, as all metrics are.
It prints one JSON object per line: {"listening": PORT}, and for each request {"signal": "traces" or "metrics", "answer":
ANSWER, "at": seconds, "headers": {…}, "body": the request}; and for each line of standard input {"all": true}, behind
what was answered before. A request with a field that the classes do not know is an error.
"""
import gzip
import http.server
import json
import os
import pathlib
import ssl
import sys
import threading
import time
from concurrent import futures

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "target/tmp/otlp"))
import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

transport, port, *answers = sys.argv[1:]
lock = threading.Lock()
forever = threading.Event()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def next_answer(signal):
    with lock:
        return answers.pop(0) if signal == "traces" and answers else "take"


def decoded(kind, data):
    message = kind.FromString(data)
    known = kind.FromString(data)
    known.DiscardUnknownFields()
    assert known.SerializeToString() == message.SerializeToString(), "unknown fields"
    return message


def report(signal, answer, headers, message):
    body = MessageToDict(message, preserving_proto_field_name=True)
    say(signal=signal, answer=answer, at=time.monotonic(), headers=headers, body=body)


def partial(signal, answer):
    kind = traces.ExportTraceServiceResponse if signal == "traces" else metrics.ExportMetricsServiceResponse
    response = kind()
    if answer.startswith("partial:"):
        response.partial_success.rejected_spans = int(answer[len("partial:"):])
        response.partial_success.error_message = "too old"
    return response


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        signal = {"/v1/traces": "traces", "/v1/metrics": "metrics"}[self.path]
        kind = traces.ExportTraceServiceRequest if signal == "traces" else metrics.ExportMetricsServiceRequest
        assert self.headers["Content-Type"] == "application/x-protobuf"
        message = decoded(kind, data)
        answer = next_answer(signal)
        report(signal, answer, {name.lower(): value for name, value in self.headers.items()}, message)
        if answer == "hang":
            forever.wait()
        status, _, seconds = answer.partition("/")
        if not status.isdigit():
            status = "200"
        body = partial(signal, answer).SerializeToString() if status == "200" else b"no"
        self.send_response(int(status))
        if seconds:
            self.send_header("Retry-After", seconds)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            # The run has ended.
            self.close_connection = True

    def log_message(self, *_):
        pass


def status_details(code, seconds):
    """google.rpc.Status with RetryInfo; their classes are not part of OTLP."""
    retry = duration_pb2.Duration(seconds=int(seconds)).SerializeToString()
    info = b"\x0a" + bytes([len(retry)]) + retry
    detail = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info).SerializeToString()
    return b"\x08" + bytes([code]) + b"\x1a" + bytes([len(detail)]) + detail


def export(signal, message, context):
    answer = next_answer(signal)
    report(signal, answer, dict(context.invocation_metadata()), decoded(type(message), message.SerializeToString()))
    if answer == "hang":
        forever.wait()
    code, _, seconds = answer.partition("/")
    if code.isdigit():
        if seconds:
            context.set_trailing_metadata((("grpc-status-details-bin", status_details(int(code), seconds)),))
        context.abort(next(known for known in grpc.StatusCode if known.value[0] == int(code)), "not now")
    return partial(signal, answer)


class Traces(traces_grpc.TraceServiceServicer):
    def Export(self, request, context):
        return export("traces", request, context)


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        return export("metrics", request, context)


def answer_lines():
    for _ in sys.stdin:
        say(all=True)


threading.Thread(target=answer_lines, daemon=True).start()
if transport == "http":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    if "KEY" in os.environ:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    say(listening=server.server_address[1])
    server.serve_forever()
else:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    traces_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    address = f"127.0.0.1:{port}"
    if "KEY" in os.environ:
        pair = tuple(pathlib.Path(os.environ[name]).read_bytes() for name in ("KEY", "CERTIFICATE"))
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(address)
    server.start()
    say(listening=bound)
    server.wait_for_termination()
