"""The lineage once more, as W3C PROV (PROV-JSON), for tools that read provenance and not our own form:
https://www.w3.org/TR/prov-overview/"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from prov.model import PROV_LABEL, ProvDocument

NAME = "lineage.prov.json"


def document(lineage: Mapping[str, Any]) -> str:
    """Stages are activities. What they read and made are entities, named by their md5; a published file, named by its
    sha256, is derived from its table.

    The same bytes for the same lineage.
    """
    made = ProvDocument()
    made.add_namespace("srlm", "urn:self-rewarding-lm:")
    seen: set[str] = set()

    def entity(kind: str, content_hash: str, path: str) -> str:
        name = f"srlm:{kind}.{content_hash}.{quote(path, safe='')}"
        if name not in seen:
            seen.add(name)
            made.entity(name, {PROV_LABEL: path, f"srlm:{kind}": content_hash})
        return name

    for stage, about in sorted(lineage["stages"].items()):
        activity = made.activity(f"srlm:stage.{stage}", other_attributes={PROV_LABEL: stage, "srlm:cmd": about["cmd"]})
        for path, md5 in sorted(about["deps"].items()):
            made.used(activity, entity("md5", md5, path))
        for path, md5 in sorted(about["outs"].items()):
            made.wasGeneratedBy(entity("md5", md5, path), activity)
    for path, about in sorted(lineage["files"].items()):
        if "table" in about:
            made.wasDerivedFrom(entity("sha256", about["sha256"], path), entity("md5", about["md5"], about["table"]))
    return (
        json.dumps(json.loads(made.serialize(format="json") or ""), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    )
