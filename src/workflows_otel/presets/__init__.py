"""Back ends. A preset knows one back end (where it is, what it needs) and nothing about workflows."""

from workflows_otel.presets.console import console
from workflows_otel.presets.jaeger import jaeger
from workflows_otel.presets.langfuse import langfuse
from workflows_otel.presets.otlp import otlp
from workflows_otel.presets.phoenix import phoenix
from workflows_otel.presets.preset import Judgement, Preset

__all__ = ["Judgement", "Preset", "console", "jaeger", "langfuse", "otlp", "phoenix"]
