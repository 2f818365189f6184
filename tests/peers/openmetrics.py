"""Prints OpenMetrics text from standard input as JSON: a list of name, labels and value,
without its fraction.

The parser is prometheus_client's, which refuses what breaks the format.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

samples = [
    [sample.name, sample.labels, int(sample.value)]
    for family in text_string_to_metric_families(sys.stdin.read())
    for sample in family.samples
]
json.dump(samples, sys.stdout)
