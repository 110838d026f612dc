"""restore: every table, model and metrics file of a git revision, without DVC and without this package.

    python stages/commands/restore.py REV [NAME...] [--to DIR] [--from CACHE_OR_REMOTE]... [--force]

For any Python from 3.11 on, in the project's folder. What there was, and its md5, stands in REV's dvc.lock; the bytes
come from remotes that are folders, DVC's cache, or git, which holds metrics and plots. Each file is hashed as it was
copied, and renamed into its place when its md5 is right. Nothing that differs is overwritten without --force, nothing
is deleted. Exit code 1 where something is missing or damaged.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
FIELD = r"(    -|     ) (path|hash|md5|size|nfiles|isexec):(.*(?:\n {7}.*)*)\n"
"""Of an out, which begins with `-`; a long value goes on in lines that stand deeper."""
PART = re.compile(
    r"schema: '2\.0'\n|stages:\n|datasets:\n(?:[ -].*\n|\n)*|  [^ ?\n].*:\n"
    r"|    (?:cmd|deps|params):.*\n(?:    [ -].*\n| *\n)*"
    rf"|    outs:\n(?P<outs>(?:(?=    -){FIELD}(?:(?=     ){FIELD})*)*)"
)
"""Of the narrow YAML that DVC writes: a stage behind two spaces, its sections behind four."""


def outs(lock: str) -> list[tuple[str, str]]:
    """Path and md5 of what stages made; what DVC does not write is refused."""
    text, at, items = lock.replace("\r\n", "\n"), 0, list[dict[str, str]]()
    while at < len(text):
        if not (part := PART.match(text, at)):
            line, seen = text.count("\n", 0, at) + 1, text[at:].split("\n")[0]
            raise SystemExit(f"dvc.lock, line {line}: DVC 3 does not write that, so it is not guessed at: {seen!a:.99}")
        for first, field, value in re.findall(FIELD, part["outs"] or ""):
            items += [{}] if first.endswith("-") else []
            items[-1][field] = scalar(" ".join(line.strip(" ") for line in value.split("\n")).strip(" "))
        at = part.end()
    for item in items:
        if item.get("hash") != "md5" or not MD5.fullmatch(item.get("md5", "")):
            raise SystemExit(f"dvc.lock has no md5 of {item.get('path', '')!a:.99} as DVC 3 writes it")
    return [(inside(item.get("path", ""), "dvc.lock"), item["md5"]) for item in items]


def scalar(text: str) -> str:
    """A value of YAML: plain, 'single' or "double"; others are refused."""
    if re.fullmatch(r"'([^']|'')*'|[^'\"&*!|>%@`{}\[\],#?].*|", text):
        return text[1:-1].replace("''", "'") if text.startswith("'") else text
    try:
        return str(json.loads(text if text.startswith('"') else ""))
    except ValueError:
        raise SystemExit(f"dvc.lock holds a value in a form that is not read here: {text!a:.99}") from None


def inside(path: str, where: str) -> str:
    """`path`, where it leads into the folder, and not to git's or DVC's own files."""
    bad = any(part.casefold() in ("", ".", "..", ".git", ".dvc") for part in path.split("/"))
    if bad or not path.isprintable() or "\\" in path or ":" in path:
        raise SystemExit(f"{where} names {path!a:.99}, which leads out of the folder, or to .git or .dvc: refused")
    return path


def chosen(found: list[tuple[str, str]], names: list[str]) -> dict[str, str]:
    """The outs that a name means, all without names: a path, a folder above it, or a part of one: M2, pairs."""
    parts = {path: {*(p := PurePosixPath(path)).parts, p.stem, *map(str, (p, *p.parents))} for path, _ in found}
    every, wanted = sorted(set().union(*parts.values())), dict[str, str]()
    for name in names:
        if name not in every:
            near = get_close_matches(name, every) or every[:5]
            raise SystemExit(f"dvc.lock of that revision names no {name!a}; near it: {', '.join(near)}")
    for path, md5 in found:
        if (not names or parts[path] & {*names}) and wanted.setdefault(path, md5) != md5:
            raise SystemExit(f"dvc.lock: two stages made {path}, as {wanted[path]} and {md5}. Name others to restore")
    return wanted


def copies(md5: str, folders: list[Path]) -> list[Path]:
    """What stands where this md5 belongs, in caches and remotes (or their files/md5)."""
    places = (folder / below / md5[:2] / md5[2:] for folder in folders for below in ("files/md5", "."))
    return [place for place in places if place.is_file()]


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def listing(out: str, md5: str, folders: list[Path]) -> dict[str, str]:
    """Path to md5 of the files of an out: itself, or those of a folder; none where no one has the folder's list."""
    if not md5.endswith(".dir"):
        return {out: md5}
    for file in copies(md5, folders):
        if md5_of(file) == md5.removesuffix(".dir"):
            try:
                found = {f"{out}/{one['relpath']}": str(one["md5"]) for one in json.loads(file.read_bytes())}
            except (ValueError, KeyError, TypeError):
                found = {"": ""}
            if not all(map(MD5.fullmatch, found.values())):
                raise SystemExit(f"the list of {out} ({md5}) is not one of DVC: refused")
            return {inside(path, f"the list of {out}"): known for path, known in found.items()}
    return {}


def put(target: Path, md5: str, folders: list[Path], blob: str) -> str | None:
    """Write one file; where it is damaged, '' for nowhere, if it cannot be had."""
    partial, damaged = target.with_name(f"{target.name}.partial"), ""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for source in (*copies(md5, folders), None):
            partial.unlink(missing_ok=True)
            with partial.open("xb") as copy:
                if source:
                    with source.open("rb") as file:
                        shutil.copyfileobj(file, copy, 2**20)
                elif subprocess.run(
                    ["git", "cat-file", "blob", blob], stdout=copy, stderr=subprocess.DEVNULL, check=False
                ).returncode:
                    break
            if (found := md5_of(partial)) == md5:
                partial.replace(target)
                return None
            damaged += f", but {source or blob} has another md5, {found}"
    finally:
        partial.unlink(missing_ok=True)
    return damaged


def restore(revision: str, names: list[str], to: Path, folders: list[Path], force: bool) -> None:
    done = subprocess.run(["git", "cat-file", "blob", f"{revision}:./dvc.lock"], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"git has no dvc.lock of {revision!a} in {Path().resolve()}. git tag, git log name revisions")
    wanted = chosen(outs(done.stdout.decode()), [name.rstrip("/") for name in names])
    lists = {out: listing(out, md5, folders) for out, md5 in wanted.items()}
    files = {path: md5 for listed in lists.values() for path, md5 in listed.items()}
    missing = {out: f"md5 {md5}" for out, md5 in wanted.items() if not lists[out]}
    for parent in {(to / path).parent for path in files}:
        if not parent.resolve().is_relative_to(to.resolve()):
            raise SystemExit(f"{parent} leads elsewhere, by a link to {parent.resolve()}: refused")
    same = {path for path, md5 in files.items() if (to / path).is_file() and md5_of(to / path) == md5}
    differ = [str(to / path) for path in files if path not in same and (to / path).exists()]
    if differ and not force:
        raise SystemExit(
            f"{len(differ)} file(s) differ from {revision}, first {differ[0]}, so nothing was written. Name another "
            f"folder with --to, or overwrite them with --force"
        )
    for path, md5 in files.items():
        if path not in same and (why := put(to / path, md5, folders, f"{revision}:./{path}")) is not None:
            missing[path] = f"md5 {md5}{why}"
    written = len(files) - len(same) - len(files.keys() & missing)
    print(f"{revision}: {written} file(s) written to {to}, {len(same)} were there, {len(missing)} missing")
    folds = (file for out in lists if lists[out] and (to / out).is_dir() for file in (to / out).rglob("*"))
    if other := [str(file) for file in folds if file.is_file() and file.relative_to(to).as_posix() not in files]:
        print(f"{len(other)} file(s) more lie in its folders, and stay there: {other[0]!a}", file=sys.stderr)
    if missing:
        print(*(f"{path} ({why})" for path, why in missing.items()), sep="\n", file=sys.stderr)
        raise SystemExit(f"missing in {', '.join(map(str, folders))} and in git. Name another folder with --from")


def main() -> None:
    parser = argparse.ArgumentParser(description=f"Restore{(__doc__ or '')[7:].partition(chr(10))[0]}")
    parser.add_argument("revision", metavar="REV", help="a git revision or tag")
    parser.add_argument("names", metavar="NAME", nargs="*", help="a path or a part of one: data/AIFT, M2, pairs")
    parser.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="a folder for them; this one by default")
    each = "a cache of DVC, or a remote that is a folder, beside .dvc/cache"
    parser.add_argument("--from", type=Path, action="append", default=[], dest="folders", metavar="FOLDER", help=each)
    parser.add_argument("--force", action="store_true", help="overwrite files that differ")
    given = parser.parse_intermixed_args()
    if absent := next((folder for folder in given.folders if not folder.is_dir()), None):
        raise SystemExit(f"no folder {str(absent)!a}: --from names a cache of DVC, or a remote that is a folder")
    try:
        restore(given.revision, given.names, given.to, [*given.folders, Path(".dvc/cache")], given.force)
    except (OSError, UnicodeDecodeError) as e:
        raise SystemExit(f"stopped: {e}. No file is half-written; the same command goes on from there") from None


if __name__ == "__main__":
    main()
