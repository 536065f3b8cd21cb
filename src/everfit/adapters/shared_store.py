"""Where models lie so that a server elsewhere reads them: an object store, or a folder that both sides mount.

Takes a URI prefix and a model's folder; gives the URI of a candidate, its files copied once; never reads a model back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from everfit.errors import Unavailable, UsageError
from everfit.ids import issued_id


@dataclass(frozen=True, slots=True)
class Store:
    """A place for models that a server elsewhere reads: an object store, or a folder that is mounted on both sides."""

    uri: str  # prefix as the server reads it: s3://, gs://, pvc://, hdfs:// ...
    files: pafs.FileSystem
    root: str  # the same place in `files`

    def of(self, candidate: str) -> str:
        """The storage URI of a candidate."""
        return f"{self.uri}/{candidate}"

    def bring(self, candidate: str, folder: Path) -> None:
        """Copy a model's folder there, once.

        Raises:
            Unavailable: the store cannot be written.
        """
        target = f"{self.root}/{candidate}"
        try:
            if self.files.get_file_info(f"{target}/model.json").type == pafs.FileType.File:
                return
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            for path in sorted(paths, key=lambda path: path.name == "model.json"):  # last: it says that all is there
                self._copy(path, f"{target}/{path.relative_to(folder).as_posix()}")
        except OSError as error:
            raise Unavailable(f"{self.uri} cannot be written: {error}; see docs/gateways.md, credentials") from error

    def drop(self, candidate: str) -> None:
        """Remove a model's folder; a no-op if it is gone."""
        try:
            if self.files.get_file_info(f"{self.root}/{candidate}").type != pafs.FileType.NotFound:
                self.files.delete_dir(f"{self.root}/{candidate}")
        except OSError as error:
            raise Unavailable(f"{self.uri} cannot be written: {error}") from error

    def _copy(self, path: Path, target: str) -> None:
        # Object stores show whole objects only; a folder gets the file by its name at once.
        fresh = f"{target}.{issued_id()}" if isinstance(self.files, pafs.LocalFileSystem) else target
        self.files.create_dir(target.rpartition("/")[0], recursive=True)
        with self.files.open_output_stream(fresh) as out:
            out.write(path.read_bytes())
        if fresh != target:
            self.files.move(fresh, target)


def store_at(uri: str, folder: str | None = None) -> Store:
    """The store of a URI prefix; `folder` is where it is mounted on this machine, for `pvc://` and alike.

    Raises:
        UsageError: neither a kind of store that can be written to from here, nor a folder.
    """
    prefix = uri.partition("?")[0].rstrip("/")  # options such as ?region= are for us and not for the server
    if folder:
        return Store(prefix, pafs.LocalFileSystem(), folder.rstrip("/"))
    try:
        files, root = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"EVERFIT_GATEWAY: models cannot be copied to {uri!r} ({error}); use s3:// or gs://, or mount it here and "
            "name its place with folder=/mnt/..."
        ) from error
    return Store(prefix, files, root.rstrip("/"))
