"""`python -m config` prints the table of settings that the docs show."""

from pydantic.fields import FieldInfo

from config.group import about
from config.settings import GROUPS


def table() -> str:
    """Every setting as a Markdown table, for the docs."""
    rows = ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
    for group in GROUPS.values():
        rows += [_row(field) for field in group.model_fields.values()]
    return "\n".join(rows) + "\n"


def _row(field: FieldInfo) -> str:
    allowed = about(field)["allowed"]
    return f"| `{field.validation_alias}` | {_shown(field.default)} | {allowed} | {field.description} |"


def _shown(default: object) -> str:
    if default in (None, (), {}):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    print(table(), end="")
