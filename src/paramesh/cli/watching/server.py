"""The page of `paramesh watch`, served over HTTP.

Whoever can reach the port needs the token: it is in the address that is printed, and becomes a
cookie with the first request. A page of another site can neither read anything (no CORS) nor make
the browser send the cookie (`SameSite=Strict`); a name that resolves to this host is no way in
either, since the `Host` header is checked.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
from importlib import resources
from typing import TYPE_CHECKING, Any

from paramesh.cli.errors import CommandError
from paramesh.cli.watching.gathering import Gatherer

if TYPE_CHECKING:
    from rich.console import Console
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "paramesh-watch"

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ),
}


def page() -> str:
    """The page, with its style and script in it."""
    folder = resources.files("paramesh.cli") / "page"

    def part(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    text = part("watch.html")
    style = part("report.css") + part("plan.css") + part("watch.css")
    for mark, content in {"STYLE": style, "SCRIPT": part("watch.js")}.items():
        text = text.replace(f"/*{mark}*/", content)
    return text


def application(gatherer: Gatherer, token: str, host: str) -> Starlette:
    """The application: `/` is the page, `/state` its data as JSON (`?run=NAME` for one of several).

    Args:
        gatherer: where the data come from.
        token: what a visitor has to know.
        host: the address that is listened on.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
    from starlette.responses import Response as Answer
    from starlette.routing import Route

    content = page()
    names = _names(host)

    def refused(request: Request) -> Response | None:
        name = request.headers.get("host", "").rpartition(":")[0]
        if names is not None and name not in names:
            return PlainTextResponse("This address is not served here.", 421, _HEADERS)
        given = request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            text = "Open the address that `paramesh watch --page` has printed, with its token."
            return PlainTextResponse(text, 403, _HEADERS)
        return None

    def home(request: Request) -> Response:
        given = request.query_params.get("token", "")
        if given and hmac.compare_digest(given.encode(), token.encode()):
            # The token leaves the address, which stays in the history of the browser.
            answer = RedirectResponse("/", 303, _HEADERS)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        return refused(request) or HTMLResponse(content, headers=_HEADERS)

    async def state(request: Request) -> Response:
        no = refused(request)
        if no is not None:
            return no
        try:
            found: dict[str, Any] = await run_in_threadpool(
                gatherer.state, request.query_params.get("run") or None
            )
        except CommandError as error:
            found = {"error": str(error), "runs": [], "run": None}
        text = json.dumps(found, allow_nan=False)
        return Answer(text, media_type="application/json", headers=_HEADERS)

    return Starlette(routes=[Route("/", home), Route("/state", state)])


def _names(host: str) -> frozenset[str] | None:
    """What a visitor may call this host; None: anything, since it listens on a network."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return frozenset({"127.0.0.1", "[::1]", "localhost", host}) if loopback else None


def serve(gatherer: Gatherer, host: str, port: int, console: Console) -> None:
    """Serve the page until Ctrl-C.

    Args:
        gatherer: where the data come from.
        host: the address to listen on.
        port: 0: a free one.
        console: gets the address, with the token.

    Raises:
        CommandError: starlette or uvicorn is not installed, or the port is taken.
    """
    try:
        import starlette as starlette
        import uvicorn
    except ImportError as error:
        raise CommandError(
            "--page needs starlette and uvicorn: pip install 'paramesh[watch]'; without --page "
            "the run is shown on the terminal"
        ) from error
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        application(gatherer, token, host),
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
    )
    try:
        listening = _bound(host, port)
    except OSError as error:
        raise CommandError(f"--host {host} --port {port}: {error.strerror or error}") from error
    with listening:
        at = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        console.print(f"http://{name}:{at}/?token={token}", highlight=False, soft_wrap=True)
        uvicorn.Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made
