"""Templates, filled once: a field is data, never code, and cannot speak for the judge."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stages.console.errors import SrlmError

CLOSING_TAG = re.compile(r"</([A-Za-z][\w-]*)>")

NOT_PLAIN = re.compile(r"[^\t\n\r -~]+")
NEVER = re.compile(r"(?!)")
HANGUL_FILLERS = "\u115f\u1160"  # letters by category, and nothing to see
SIGNS = str.maketrans(
    "\u2044\u2215\u2236\ua789“”„«»「」『』【】〔〕аеорсухіјѕԁАВЕКМНОРСТХІЈЅοςερινΑΒΕΗΙΚΜΝΟΡΤΧıꜱᴄᴏʀᴇᴘᴀɴᴛɪᴡ",
    '//::"""""[][][][]aeopcyxijsdABEKMHOPCTXIJSocepivABEHIKMNOPTXiscorepantiw',
)  # what NFKD leaves: slashes, colons, quotation marks, and letters that look like others

_jinja = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)  # plain text, not HTML
del _jinja.globals["lipsum"], _jinja.filters["random"]  # the same text every time


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


class _Folds(dict[str, str]):
    """A character as it is compared: compatibility forms made plain (NFKD), without marks and what cannot be seen."""

    def __missing__(self, c: str) -> str:
        plain = " " if c.isspace() else unicodedata.normalize("NFKD", c)
        plain = "".join(str(unicodedata.digit(d, d)) for d in plain)
        return self.setdefault(c, "".join(d for d in plain.translate(SIGNS) if not _is_invisible(d)))


def _is_invisible(c: str) -> bool:
    return c in HANGUL_FILLERS or unicodedata.category(c) in {"Cc", "Cf", "Mn", "Me"}


_FOLDS = _Folds()


def folded(text: str) -> tuple[str, list[int]]:
    """`text` as it is compared, and where each of its characters stands in `text`."""
    parts, places, end = [], list[int](), 0
    for run in NOT_PLAIN.finditer(text):
        parts.append(text[end : run.start()])
        places.extend(range(end, run.start()))
        for i, c in enumerate(run[0], run.start()):
            parts.append(shown := _FOLDS[c])
            places.extend([i] * len(shown))
        end = run.end()
    return "".join(parts) + text[end:], [*places, *range(end, len(text))]


def fold(text: str) -> str:
    """`text` as it is compared: full-width `Ｓｃｏｒｅ：５` is `Score:5`, a zero-width space is nothing."""
    return folded(text)[0] if NOT_PLAIN.search(text) else text


def mask_verdicts(text: str, template: str, verdict: re.Pattern[str]) -> str:
    """`text` with ` (quoted)` put into what could pass for the judge's verdict or for one of the template's own tags;
    otherwise unchanged. Takes time linear in the text.

    Data must not speak for the judge: in a self-rewarding loop that is the channel that training finds. The mark goes
    behind the first group of `verdict`, the pattern that verdicts are read with, so that the marked text no longer
    matches: `Score (quoted): 5`, `</response (quoted)>`. Both are looked for in the text as it stands and as a judge
    may see it: full-width `Ｓｃｏｒｅ：５` is `Score: 5`, a zero-width space is nothing.
    """
    names = "|".join(sorted({re.escape(name) for name in CLOSING_TAG.findall(template)}))
    tag = re.compile(rf"(<[\s/\\]*+(?:{names}))(?![\w-]| \(quoted\))", re.IGNORECASE) if names else NEVER
    views: list[tuple[str, Sequence[int]]] = [(text, range(len(text)))]
    views += [folded(text)] if NOT_PLAIN.search(text) else []
    marks = {places[m.end(1) - 1] + 1 for seen, places in views for p in (verdict, tag) for m in p.finditer(seen)}
    cuts = [0, *sorted(marks), len(text)]
    return " (quoted)".join(text[start:end] for start, end in pairwise(cuts))
