"""restore: every table, model and metrics file of a git revision, without DVC and without this package.

    python stages/commands/restore.py REV [NAME...] [--to DIR] [--from CACHE_OR_REMOTE]... [--force]

For any Python from 3.11 on, in the project's folder. What there was, and its md5, stands in REV's dvc.lock; the bytes
come from remotes that are folders, DVC's cache, or git, which holds metrics and plots. Each file is hashed while it is
copied, and renamed into its place when its md5 is right. Nothing that differs is overwritten without --force, nothing
is deleted. Exit code 1 where something is missing or damaged.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import BinaryIO

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
SECTIONS = {"cmd", "deps", "params", "outs"}
FIELDS = {"path", "hash", "md5", "size", "nfiles", "isexec"}


def outs(lock: str) -> list[tuple[str, str]]:
    """Path and md5 of what stages made, from the narrow YAML that DVC writes: a stage behind two spaces, its sections
    behind four, each out from its `- ` on. Other sections are passed over; anything else is refused."""
    items: list[dict[str, str]] = []
    top = section = last = ""
    for number, line in enumerate(lock.split("\n"), 1):
        text, indent = line.strip(" \r"), len(line) - len(line.lstrip(" "))
        key, colon, value = text.removeprefix("- ").partition(":")
        listed = indent == 4 and text.startswith("- ")
        if (
            not text
            or (top == "datasets" and (indent or text.startswith("- ")))
            or ((listed or indent > 4) and section in SECTIONS - {"outs"})
        ):
            continue
        if not indent and (text in ("stages:", "datasets:") or text == "schema: '2.0'"):
            top, section = key, ""
        elif indent == 2 and top == "stages" and text.endswith(":") and text[0] != "?":
            section = "stage"
        elif indent == 4 and section and not listed and key in SECTIONS and not (key == "outs" and value):
            section = key
        elif section == "outs" and (listed or (indent == 6 and items)) and colon and key in FIELDS:
            items += [{}] if listed else []
            items[-1][key], last = value.strip(), key
        elif section == "outs" and indent > 6 and items:  # a long value goes on
            items[-1][last] = f"{items[-1][last]} {text}".strip()
        else:
            raise SystemExit(
                f"dvc.lock, line {number}: DVC 3 does not write that, so it is not guessed at: {text!a:.99}"
            )
    read = [[scalar(item.get(field, "")) for field in ("path", "hash", "md5")] for item in items]
    if other := next((path for path, kind, md5 in read if kind != "md5" or not MD5.fullmatch(md5)), None):
        raise SystemExit(f"dvc.lock has no md5 of {other!a:.99} as DVC 3 writes it")
    return [(inside(path, "dvc.lock"), md5) for path, _, md5 in read]


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


def git(blob: str) -> bytes | None:
    done = subprocess.run(["git", "cat-file", "blob", blob], capture_output=True, check=False)
    return None if done.returncode else done.stdout


def copies(md5: str, folders: list[Path], blob: str = "") -> Iterator[tuple[str, BinaryIO]]:
    """What stands where this md5 belongs: in caches and remotes (or their files/md5), and in git."""
    for source in (folder / below / md5[:2] / md5[2:] for folder in folders for below in ("files/md5", ".")):
        if source.is_file():
            with source.open("rb") as file:
                yield str(source), file
    if blob and (content := git(blob)) is not None:
        yield f"git's {blob}", io.BytesIO(content)


def md5_of(source: BinaryIO, copy: BinaryIO | None = None) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while data := source.read(2**20):
        digest.update(data)
        if copy:
            copy.write(data)
    return digest.hexdigest()


def listing(out: str, md5: str, folders: list[Path]) -> dict[str, str]:
    """Path to md5 of the files of an out: itself, or those of a folder; none where no one has the folder's list."""
    if not md5.endswith(".dir"):
        return {out: md5}
    for _, file in copies(md5, folders):
        data = io.BytesIO(file.read())
        if md5_of(data) == md5.removesuffix(".dir"):
            try:
                entries = {str(one["relpath"]): str(one["md5"]) for one in json.loads(data.getvalue())}
            except (ValueError, KeyError, TypeError):
                entries = {"": ""}
            if not all(map(MD5.fullmatch, entries.values())):
                raise SystemExit(f"the list of {out} ({md5}) is not one of DVC: refused")
            return {f"{out}/{inside(path, f'the list of {out}')}": known for path, known in entries.items()}
    return {}


def put(target: Path, md5: str, folders: list[Path], blob: str) -> str | None:
    """Write one file; where it is damaged, '' for nowhere, if it cannot be had."""
    partial, damaged = target.with_name(f"{target.name}.partial"), []
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for name, source in copies(md5, folders, blob):
            partial.unlink(missing_ok=True)
            with partial.open("xb") as copy:
                found = md5_of(source, copy)
            if found == md5:
                partial.replace(target)
                return None
            damaged.append(f", but {name} has another md5, {found}")
    finally:
        partial.unlink(missing_ok=True)
    return "".join(damaged)


def restore(revision: str, names: list[str], to: Path, folders: list[Path], force: bool) -> None:
    if (lock := git(f"{revision}:./dvc.lock")) is None:
        raise SystemExit(f"git has no dvc.lock of {revision!a} in {Path().resolve()}. git tag, git log name revisions")
    wanted = chosen(outs(lock.decode()), [name.rstrip("/") for name in names])
    lists = {out: listing(out, md5, folders) for out, md5 in wanted.items()}
    files = {path: md5 for listed in lists.values() for path, md5 in listed.items()}
    missing = {out: f"md5 {md5}" for out, md5 in wanted.items() if not lists[out]}
    same: set[str] = set()
    for path, md5 in files.items():
        target = to / path
        if not target.parent.resolve().is_relative_to(to.resolve()):
            raise SystemExit(f"{target} leads elsewhere, by a link to {target.parent.resolve()}: refused")
        if target.is_file():
            with target.open("rb") as file:
                same |= {path} if md5_of(file) == md5 else set()
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
    parser.add_argument(
        "--from",
        type=Path,
        action="append",
        default=[],
        dest="folders",
        metavar="FOLDER",
        help="a cache of DVC, or a remote that is a folder, beside .dvc/cache",
    )
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
