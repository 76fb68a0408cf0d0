"""Metrics in the formats of Prometheus; loads its library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.domain.outside.metrics import Kind, Measured, Observed, measure

_KINDS = {Kind.GAUGE: GaugeMetricFamily, Kind.COUNTER: CounterMetricFamily}
_PROCESS = ProcessCollector(namespace="commitd", registry=None)
"""Memory, processor time and descriptors of the agent, from /proc."""


class _Snapshot(Collector):
    """Of one moment."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        for measured in measure(self._seen):
            yield _metric(measured)
        yield from _PROCESS.collect()


def _metric(measured: Measured) -> Metric:
    family = measured.family
    kind: Any = _KINDS[family.kind]
    metric: GaugeMetricFamily | CounterMetricFamily = kind(
        family.name, family.text, labels=family.labels
    )
    for labels, value in measured.rows.items():
        metric.add_metric(labels, value)
    return metric


def written(seen: Observed, wanted: str) -> tuple[bytes, str]:
    """All series in the ``wanted`` format, and its type with the version. Blocks."""
    encode, kind = choose_encoder(wanted)
    registry = CollectorRegistry()
    registry.register(_Snapshot(seen))
    return encode(registry), kind
