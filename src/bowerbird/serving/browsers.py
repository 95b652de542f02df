"""What a browser may do with an answer: nothing, where it is no page; on a page of documentation, what stands in it.

Pages below `/console` say themselves what they need; see `serving.console.door`.
"""

import base64
import hashlib
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = b"content-security-policy"
NOTHING = b"default-src 'none'; frame-ancestors 'none'"
PAGES = ("/docs", "/redoc")
PAGE = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Browsers:
    """Puts a policy to every answer that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page, start = scope["path"].startswith(PAGES), None

        async def told(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if page:
                    start = message  # what scripts it has is known when its body is there
                    return
                _put(message, NOTHING)
            elif start is not None:
                _put(start, policy_of(message.get("body", b"")))
                await send(start)
                start = None
            await send(message)

        await self.app(scope, receive, told)


def policy_of(page: bytes) -> bytes:
    """Return what a page needs: the scripts that stand in it, by their hashes, and files of this server."""
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    return PAGE.format(scripts=" ".join(f"'sha256-{one}'" for one in digests)).replace(" ;", ";").encode()


def _put(start: Message, policy: bytes) -> None:
    if not any(name == NAME for name, _ in start["headers"]):
        start["headers"] = [*start["headers"], (NAME, policy)]
