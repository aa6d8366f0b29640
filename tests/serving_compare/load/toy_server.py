"""A server whose delays and misdeeds are known: `python toy_server.py` writes its port to stdout.

The path says what to do with a request: /ok, /delay/<ms>, /block/<ms> (nobody else is served
meanwhile), /status/<code>, /close, /swallow, /cut, /garbage, /chunked, /drip, /never, /early.
"""

from __future__ import annotations

import asyncio
import sys
import time


def answer(body: bytes = b"{}", status: int = 200, extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path == "/early":
                writer.write(answer(status=413))
                await asyncio.sleep(0.2)
                return
            length = [
                line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            ]
            if length:
                await reader.readexactly(int(length[0].split(b":")[1]))
            _, verb, *rest = path.split("/")
            number = int(rest[0]) if rest else 0
            if verb == "delay":
                await asyncio.sleep(number / 1000)
            elif verb == "block":
                time.sleep(number / 1000)
            elif verb == "swallow":
                return
            elif verb == "never":
                await asyncio.sleep(60)
            elif verb == "cut":
                writer.write(answer(b"x" * 10)[:-3])
                return
            elif verb == "garbage":
                writer.write(b"SSH-2.0-nonsense\r\n\r\n")
                continue
            elif verb == "drip":
                for byte in answer():
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.0005)
                continue
            elif verb == "chunked":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
                writer.write(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
                continue
            is_last = verb == "close"
            status = number if verb == "status" else 200
            writer.write(answer(status=status, extra="Connection: close\r\n" * is_last))
            if is_last:
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        # Outlives no test run: its end of the pipe closes with it, however it ends.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
