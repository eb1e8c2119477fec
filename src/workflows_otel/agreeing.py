"""What several callers said of one tracer provider, made one: how its runs are drawn, and what each back end sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel.presets import Preset
from workflows_otel.settings import Said, Settings
from workflows_otel.showing import MODES, shows_more
from workflows_otel.withholding import together

__all__ = ["Agreed", "Call", "agree", "most_of", "policy_for"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `setup()`: what it said, and the back ends that it feeds now."""

    said: Said
    presets: Sequence[Preset]


@dataclass(frozen=True, slots=True)
class Agreed:
    """How the runs of a provider are drawn.

    Attributes:
        settings: What the spans show is as much as any of their readers may see; each reader gets its own part of it.
        logs: What log events show: what somebody asked for, and not what a back end of spans is for.
        expected: How much an application's own exporters are expected to get.
    """

    settings: Settings
    logs: ContentPolicy
    expected: Mode


def agree(told: Said | None, calls: Sequence[Call], leaving: Iterable[Said] = ()) -> Agreed:
    """What was `told` to `instrument()`, and by each `setup()` in use, as one.

    Of options that only one can decide the last call that names them does. Every `redact=` is asked, also of those that
    are `leaving`: what they were to hide is still on its way.
    """
    instrumented = told if told is not None else Said()
    said = [instrumented, *(call.said for call in calls)]
    named = [one.policy for one in said if one.policy is not None]
    meant = [policy_for(preset, call.said, told) for call in calls for preset in call.presets]
    meant += [call.said.policy_over("types") for call in calls if not call.presets]
    meant += [] if instrumented.policy is None else [instrumented.policy]
    redact = together(one.callback for one in (*said, *leaving))
    blob = next((one.blob_of for one in reversed(said) if one.blob_of is not None), None)
    settings = Settings()
    for one in sorted(said, key=lambda one: one.at):
        settings = one.over(settings)
    presets = [preset for call in calls for preset in call.presets]
    drawn = replace(
        settings,
        content=replace(most_of(meant or [instrumented.policy_over("types")]), redact=redact, blob=blob),
        start_marker=settings.start_marker and (not presets or any(preset.start_marker for preset in presets)),
        roots=any(preset.roots for preset in presets),
        conversation_id=any(preset.conversation_id for preset in presets),
        names_traces=any(preset.names_traces for preset in presets),
    )
    logs = most_of(named or [ContentPolicy.from_environment()])
    expected = instrumented.policy or ContentPolicy.from_environment()
    return Agreed(drawn, replace(logs, redact=redact, blob=None), expected.mode)


def policy_for(preset: Preset, said: Said, told: Said | None) -> ContentPolicy:
    """What a back end may see: what its call says, else what it is for, but no more than was told to `instrument()`."""
    limit = told.policy if told is not None else None
    least = preset.content
    if limit is not None and shows_more(least, limit.mode):
        least = limit.mode
    return said.policy_over(least)


def most_of(policies: Iterable[ContentPolicy]) -> ContentPolicy:
    """The policy that shows as much as any of them; every callback of theirs is asked."""
    each = list(policies)
    mode = max((policy.mode for policy in each), key=MODES.index)
    most = [policy for policy in each if policy.mode == mode]
    redact = together(policy.redact for policy in each)
    return replace(most[0], max_chars=max(policy.max_chars for policy in most), redact=redact)
