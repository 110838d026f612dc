"""Which version of our code writes each engine's texts, and the packages that decide them besides.

Raise an engine's number on purpose, when its texts change: the completion cache has it in its keys, and the stages that
generate depend on this file alone, so a comment, a message or another progress bar reruns nothing.
`tests/engines/test_golden.py` fails when texts change and the number does not.
"""

from __future__ import annotations

VERSIONS = {"openai": 1, "ray": 1, "scripted": 1, "transformers": 2, "vllm": 2}

PACKAGES: dict[str, tuple[str, ...]] = {
    "openai": (),
    "ray": (),
    "scripted": (),
    "transformers": ("jinja2", "numpy", "peft", "tokenizers", "torch", "transformers"),
    "vllm": ("jinja2", "tokenizers", "torch", "transformers", "vllm"),
}
"""A change of one of these begins anew, too."""
