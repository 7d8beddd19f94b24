"""Options whose value may be left out, `--option [VALUE]`, which typer doesn't have."""

from typing import Any

from typer.core import TyperCommand

LEFT_OUT = {"--apply-chat-template": "true"}
"""Such options, and what they mean without a value."""


class OptionalValues(TyperCommand):
    """A command with such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give each its value where it stands last or before another option."""
        following = [*args[1:], "--"]
        given = [
            f"{one}={LEFT_OUT[one]}" if one in LEFT_OUT and after.startswith("-") else one
            for one, after in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, given)
