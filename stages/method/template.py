"""Templates, filled once: a field is data, never code, and cannot speak for the judge."""

from __future__ import annotations

import re
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stages.console.errors import SrlmError

CLOSING_TAG = re.compile(r"</([A-Za-z][\w-]*)>")

_jinja = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)  # plain text, not HTML


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    return _jinja.from_string(template)


def render(template: str, /, **fields: object) -> str:
    """Fill a jinja template once: a `{{` inside a field is data, never code.

    Raises SrlmError when the template is not valid, fails, or names a field that is not given.
    """
    head = f"template {template[:60]!r}"
    try:
        return _compile(template).render(**fields)
    except TemplateSyntaxError as e:
        raise SrlmError(f"{head}, line {e.lineno}: not a valid jinja template: {e.message}") from None
    except UndefinedError as e:
        raise SrlmError(f"{head}: {e.message}. It may use these fields: {', '.join(sorted(fields))}") from None
    except (
        Exception
    ) as e:  # a template is a small program: whatever it raises is its own fault, and the person's to mend
        raise SrlmError(f"{head} fails: {type(e).__name__}: {e}") from e


def mask_verdicts(text: str, template: str, verdict: re.Pattern[str]) -> str:
    """`text` with ` (quoted)` put into what could pass for the judge's verdict or for one of the template's own tags;
    otherwise unchanged.

    Data must not speak for the judge: in a self-rewarding loop that is the channel that training finds. `verdict` is
    the pattern the verdict is read with; the mark goes behind its first group, so that the marked text no longer
    matches. `Score: 5` becomes `Score (quoted): 5`, `</response>` becomes `</response (quoted)>`. A template without
    tags has no delimiters that this could guard.
    """
    marked = verdict.sub(lambda m: f"{m[1]} (quoted){m[0][len(m[1]) :]}", text)
    names = "|".join(sorted({re.escape(name) for name in CLOSING_TAG.findall(template)}))
    return (
        re.sub(rf"(<\s*/?\s*(?:{names}))(\s*/?\s*>)", r"\1 (quoted)\2", marked, flags=re.IGNORECASE)
        if names
        else marked
    )
