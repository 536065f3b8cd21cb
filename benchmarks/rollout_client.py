"""A client of `rollout.py`, in a process of its own that starts fast.

Takes a folder, a port, a name and how many connections; gives `count-NAME`, how many requests were answered so far, and
at the end `told-NAME.json`, what it was told of each row; never stops before the file `stop-NAME` is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

FEATURES, KEYS = 8, 500
NAMES = [f"x{number}" for number in range(FEATURES)]


@dataclass
class Told:
    """What a client was answered."""

    rows: list[tuple[str, int, float, float]] = field(default_factory=list)  # id, version, score, when
    failures: list[str] = field(default_factory=list)
    requests: int = 0


class Connection(asyncio.Protocol):
    """Asks, reads the whole answer, asks again, until a file says stop."""

    def __init__(
        self, name: str, bodies: list[list[float]], stop: Path, told: Told, ended: asyncio.Future[None]
    ) -> None:
        self.name, self.bodies, self.stop, self.told, self.ended = name, bodies, stop, told, ended
        self.number = 0
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.number += 1
        rows = []
        for place in range(3 if self.number % 10 == 0 else 1):
            values = self.bodies[(self.number + place) % len(self.bodies)]
            rows.append([*values, f"{self.name}-{self.number}-{place}", f"customer-{(self.number + place) % KEYS}"])
        body = orjson.dumps({"dataframe_split": {"columns": [*NAMES, "id", "customer"], "data": rows}})
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 :], b""
        self.told.requests += 1
        if b" 200 " not in head[:20]:
            self.told.failures.append(body.decode()[:200])
        else:
            self.keep(orjson.loads(body), time.monotonic())
        if self.number % 16 == 0 and self.stop.exists():
            self.transport.close()
        else:
            self.ask()

    def keep(self, answer: dict[str, Any], now: float) -> None:
        model = answer["model"]
        versions = model.get("versions") or [model["version"]] * len(answer["ids"])
        for each in zip(answer["ids"], versions, answer["scores"], strict=True):
            self.told.rows.append((*each, now))

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or not self.stop.exists():
            self.told.failures.append(f"the connection was lost: {error}")
        if not self.ended.done():
            self.ended.set_result(None)


async def press(port: int, name: str, connections: int, root: Path) -> None:
    loop = asyncio.get_running_loop()
    bodies = json.loads((root / "bodies.json").read_text())
    told, ends = Told(), []
    for place in range(connections):
        ended = loop.create_future()
        ends.append(ended)
        each = f"{name}-{place}"
        await loop.create_connection(
            lambda each=each, ended=ended: Connection(each, bodies, root / f"stop-{name}", told, ended),
            "127.0.0.1",
            port,
        )
    count = root / f"count-{name}"

    async def say() -> None:
        while True:
            fresh = count.with_suffix(".tmp")
            fresh.write_text(str(told.requests))
            fresh.replace(count)
            await asyncio.sleep(0.2)

    saying = asyncio.create_task(say())
    await asyncio.gather(*ends)
    saying.cancel()
    content = {"rows": told.rows, "failures": told.failures, "requests": told.requests}
    (root / f"told-{name}.json").write_bytes(orjson.dumps(content))


if __name__ == "__main__":
    uvloop.run(press(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[1])))
