"""Who may see the page, and what may pass: hosts, a password, the size of what is sent, and nothing to elsewhere."""

import asyncio
import hmac
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio import processing_utils

from bpfc.explore.page import look_of_it
from bpfc.explore.pictures import BYTES

LOOPBACK = ("127.0.0.1", "::1", "localhost")
USER = "bpfc"
"""Of the password."""
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"
"""A browser lets the page ask nothing of any other machine, whatever a later Gradio puts into it."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """In front of everything: refuses strange hosts and large or endless bodies, and adds the policy to answers.

    Args:
        app: what it guards.
        hosts: names by which the page may be asked for; None for any. With them, a page elsewhere cannot reach a
            loopback address by a name of its own that it points there.
    """

    def __init__(self, app: Any, hosts: Sequence[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and _host(headers.get(b"host", "")) not in self.hosts:
            await _refuse(send, 421, "this page answers on its loopback address alone")
            return
        length = headers.get(b"content-length", "0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > BYTES + 65_536:
            await _refuse(send, 413, f"at most {BYTES / 1e6:.0f} MB, with its length told")
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self.app(scope, receive, guarded)


def application(page: gr.Blocks, password: str | None, hosts: Sequence[str] | None) -> FastAPI:
    """The page with all that guards it, for any ASGI server."""
    # A visitor's message may name an address in place of an uploaded file, and Gradio would fetch it.
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=hosts)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=_asks_for(password) if password is not None else None,
        auth_message=f"The user is {USER}; the password stands where the page was started.",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        **look_of_it(),
    )


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serves until it is interrupted."""
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address, taken before any network is loaded.

    Raises:
        ValueError: the address is not one of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise ValueError(
            f"--host {host} --port {port}: cannot be listened on ({error}); name another, 0 for a free port"
        ) from error
    return listening


def _asks_for(password: str) -> Callable[[str, str], Awaitable[bool]]:
    async def knows(user: str, tried: str) -> bool:
        right = hmac.compare_digest(user.encode(), USER.encode()) & hmac.compare_digest(
            tried.encode(), password.encode()
        )
        if not right:
            await asyncio.sleep(1)  # so that nobody tries many
        return right

    return knows


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise ValueError("addresses are not fetched; upload the picture")


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    return header[1 : header.index("]")] if header.startswith("[") and "]" in header else header.rsplit(":", 1)[0]


async def _refuse(send: Send, status: int, told: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": told.encode()})
