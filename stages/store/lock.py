"""dvc.lock, which DVC writes anew after each stage: is it complete?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOCK = "dvc.lock"


def is_complete_lock(lock: Path) -> bool:
    """Whether DVC can read it, and no hash is cut off, at which DVC stumbles later."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils import strictyaml

    try:
        content, text = strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return False
    stages = content.get("stages", {}).values()
    files = [file for stage in stages for kind in ("deps", "outs") for file in stage.get(kind, ())]
    return text.endswith("\n") and all(map(_is_hashed, files))


def _is_hashed(file: Mapping[str, Any]) -> bool:
    """Whether an entry holds a whole md5, or, of something that lies elsewhere (S3, a web server), the hash that is
    given there."""
    if "md5" in file:
        return bool(re.fullmatch(r"[0-9a-f]{32}(\.dir)?", file["md5"]))
    return bool(file.get("etag") or file.get("checksum") or file.get("files"))
