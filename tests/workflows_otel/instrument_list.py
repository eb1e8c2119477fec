"""Every instrument of our metrics, taken down as it is made."""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.metrics import NoOpMeter

from workflows_otel.instruments import CallInstruments, Instruments

# How OpenTelemetry's names become Prometheus's:
# https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
UNITS = {"s": "_seconds", "By": "_bytes"}
SUFFIXES = {
    "histogram": ("_bucket", "_sum", "_count"),
    "counter": ("_total",),
    "gauge": ("",),
    "up-down counter": ("",),
}


class Instrument(NamedTuple):
    """One instrument, with its unit as OpenTelemetry writes it."""

    name: str
    kind: str
    unit: str
    about: str

    def prometheus_names(self) -> list[str]:
        """The series that Prometheus has of it."""
        base = self.name.replace(".", "_") + UNITS.get(self.unit, "")
        return [base + suffix for suffix in SUFFIXES[self.kind]]


def instruments() -> list[Instrument]:
    """All of them, by name."""
    meter = _Meter()
    Instruments(meter, lambda what: lambda options: [])
    CallInstruments(meter)
    return sorted(meter.made)


class _Meter(NoOpMeter):
    def __init__(self) -> None:
        super().__init__("listing")
        self.made: list[Instrument] = []

    def create_histogram(self, name: str, unit: str = "", description: str = "", **options: Any) -> Any:
        self.made.append(Instrument(name, "histogram", unit, description))
        return super().create_histogram(name, unit, description)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self.made.append(Instrument(name, "counter", unit, description))
        return super().create_counter(name, unit, description)

    def create_observable_counter(self, name: str, callbacks: Any = None, unit: str = "", description: str = "") -> Any:
        self.made.append(Instrument(name, "counter", unit, description))
        return super().create_observable_counter(name, callbacks, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self.made.append(Instrument(name, "up-down counter", unit, description))
        return super().create_up_down_counter(name, unit, description)

    def create_observable_gauge(self, name: str, callbacks: Any = None, unit: str = "", description: str = "") -> Any:
        self.made.append(Instrument(name, "gauge", unit, description))
        return super().create_observable_gauge(name, callbacks, unit, description)
