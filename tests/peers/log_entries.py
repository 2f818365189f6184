"""Decodes length-delimited log entries with Google's library: `log_entries.py PROTO FILE…` prints a JSON line for
each file, the list of its entries.

The classes are made from the schema by protoc, so this shares no code with what wrote the file.
"""
import base64
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile

from google.protobuf.internal.decoder import _DecodeVarint32
from google.protobuf.json_format import MessageToDict

schema, *paths = map(pathlib.Path, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["protoc", f"--proto_path={schema.parent}", f"--python_out={folder}", schema], check=True)
    sys.path.insert(0, folder)
    module = importlib.import_module(schema.stem + "_pb2")


def entries(data):
    at = 0
    while at < len(data):
        size, at = _DecodeVarint32(data, at)
        entry = module.LogEntry()
        assert entry.ParseFromString(data[at:at + size]) == size
        at += size
        # The first one says who captured what.
        if entry.log_type == module.LOG_TYPE_PROCESS_LOG and '"kind":"audit"' in entry.run_log:
            continue
        event = entry.event_payload
        assert entry.log_type == module.LOG_TYPE_EVENT and event.length == len(event.payload), entry
        fields = MessageToDict(event, preserving_proto_field_name=True, including_default_value_fields=True)
        assert base64.b64decode(fields["payload"]) == event.payload
        yield fields


for path in paths:
    print(json.dumps(list(entries(path.read_bytes()))))
