"""An MCP server that accepts Fama's tokens. Needs mcp 2.3, which brings Starlette and Uvicorn.

Run: python3 mcp_server.py NODE_URL PORT GENESIS_FILE RESOURCE ISSUER...
"""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fama_client import AsyncResourceServer, Refused

NODE_URL, PORT, GENESIS = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8")
# What clients call and ask tokens for, like https://tools.example/mcp: a domain that operators vouch for.
RESOURCE, ISSUERS = sys.argv[4], sys.argv[5:]
AT = urlsplit(RESOURCE)

api = AsyncResourceServer(NODE_URL, genesis=GENESIS, issuers=ISSUERS, resource=RESOURCE, scopes=["read", "pay"])


class Tokens:
    """The SDK's `TokenVerifier`. It passes bearer tokens only; whatever is refused here it answers with 401."""

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            read = await api.check("POST", AT.path, [("authorization", f"Bearer {token}")])
        except Refused:
            return None
        return AccessToken(
            token=token,
            client_id=read.client_id,
            scopes=list(read.scopes),
            expires_at=read.expires,
            resource=read.audience,
            subject=read.subject,
            claims={"iss": read.issuer, "karma": read.karma, "process": read.process},
        )


# The SDK's settings name one issuer; the metadata below names all of them.
auth = AuthSettings(
    issuer_url=AnyHttpUrl(ISSUERS[0]),
    resource_server_url=AnyHttpUrl(RESOURCE),
    required_scopes=["read"],
    validate_token_resource=True,
)
mcp = MCPServer("tools", token_verifier=Tokens(), auth=auth)


def caller() -> AccessToken:
    if (token := get_access_token()) is None:
        raise ToolError("nobody signed in")
    return token


@mcp.tool()
def whoami() -> str:
    """Who calls. The scope `read`, which every request needs, is enough."""
    token = caller()
    process = (token.claims or {})["process"]
    return f"{token.client_id}, by its process {process}" if process else token.client_id


@mcp.tool()
def pay(amount: int) -> str:
    """Pays. Needs the scope `pay` and 5 karma."""
    token = caller()
    if "pay" not in token.scopes or (token.claims or {})["karma"] < 5:
        raise ToolError("this needs the scope pay and 5 karma")
    return f"{token.client_id} paid {amount}"


async def metadata(_: Request) -> Response:
    return JSONResponse(api.metadata())


async def main() -> None:
    hosts = TransportSecuritySettings(allowed_hosts=[AT.netloc, f"127.0.0.1:{PORT}"])
    app = mcp.streamable_http_app(streamable_http_path=AT.path, transport_security=hosts)
    app.router.routes.insert(0, Route(api.metadata_path, metadata))
    async with api:
        print(f"listening on http://127.0.0.1:{PORT}", flush=True)
        await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=PORT, log_level="warning")).serve()


asyncio.run(main())
