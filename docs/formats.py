"""The table of formats in docs/data.md, from the code that reads them: python -m docs.formats."""

from __future__ import annotations

from stages.method.formats import FORMATS, Field


def table() -> str:
    lines = ["| format | what | ranks | needs | may have |", "|---|---|---|---|---|"]
    for name, known in FORMATS.items():
        needed, optional = (
            ", ".join(_field(*item) for item in some.items()) for some in (known.needed, known.optional)
        )
        lines.append(f"| `{name}` | {known.title} | {'yes' if known.ranked else 'no'} | {needed} | {optional} |")
    return "\n".join(lines)


def _field(name: str, field: Field) -> str:
    others = [guess for guess in (*field.names, *field.otherwise) if guess != name]
    of = f" of each of `{field.inside}`" if field.inside else ""
    return f"`{name}`{of}" + (f" ({', '.join(others)})" if others else "")


if __name__ == "__main__":
    print(table())
