"""Other people's Python software signs in and checks tokens: Authlib and PyJWT, as their users have them.

The test that starts this gives a federation in `FAMA_SIGN_IN`, as JSON. `routes` stands in for the name service and TLS: the
origins there are those of the test's listeners. What fails ends the program with an error.
"""

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path

import httpx2
import jwt
from authlib.integrations.httpx_client import OAuth2Client, OAuthError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc.jwk import ECKey, OKPKey
from mcp import Client
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client

GIVEN = json.loads(os.environ["FAMA_SIGN_IN"])
RESOURCE = GIVEN["resource"]


def routed(url):
    """The address at the listener that the test has for an origin."""
    for origin, listener in GIVEN["routes"].items():
        if url.startswith(f"{origin}/"):
            return listener + url.removeprefix(origin)
    return url


class Routes(httpx2.BaseTransport):
    def __init__(self):
        self.transport = httpx2.HTTPTransport()

    def handle_request(self, request):
        request.url = httpx2.URL(routed(str(request.url)))
        return self.transport.handle_request(request)


class AsyncRoutes(httpx2.AsyncBaseTransport):
    def __init__(self):
        self.transport = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request):
        request.url = httpx2.URL(routed(str(request.url)))
        return await self.transport.handle_async_request(request)


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def key_of(agent):
    pem = Path(agent["key"]).read_text()
    return (ECKey if agent["algorithm"] == "ES256K" else OKPKey).import_key(pem)


def client_of(agent, issuer):
    client = OAuth2Client(
        agent["handle"], key_of(agent), token_endpoint_auth_method="private_key_jwt",
        revocation_endpoint_auth_method="private_key_jwt", transport=Routes(),
    )  # fmt: skip
    client.register_client_auth_method(PrivateKeyJWT(issuer, alg=agent["algorithm"]))
    return client


def metadata_of(issuer):
    with httpx2.Client(transport=Routes()) as http:
        metadata = AuthorizationServerMetadata(http.get(f"{issuer}/.well-known/oauth-authorization-server").json())
    metadata.validate()
    check(metadata["issuer"] == issuer, metadata["issuer"])
    return metadata


def authlib():
    """Discovers, gets a token, asks about it and revokes it, with a key of each curve, at each issuer."""
    for issuer in GIVEN["issuers"]:
        metadata = metadata_of(issuer)
        for agent in GIVEN["agents"]:
            with client_of(agent, issuer) as client:
                want = {"grant_type": "client_credentials", "resource": RESOURCE, "scope": "read"}
                token = client.fetch_token(metadata["token_endpoint"], **want)
                check(token["scope"] == "read" and token["token_type"] == "Bearer", token)
                # Of one assertion each, that Authlib makes anew.
                again = client.fetch_token(metadata["token_endpoint"], **want)
                check(again["access_token"] != token["access_token"], "the same token twice")
                about = {"token": token["access_token"]}
                answer = client.introspect_token(metadata["introspection_endpoint"], **about).json()
                check(answer["active"] and answer["client_id"] == agent["handle"], answer)
                client.revoke_token(metadata["revocation_endpoint"], **about)
                answer = client.introspect_token(metadata["introspection_endpoint"], **about).json()
                check(answer == {"active": False}, answer)
                try:
                    client.fetch_token(metadata["token_endpoint"], **{**want, "scope": "delete"})
                    raise AssertionError("a scope that nobody granted")
                except OAuthError as error:
                    check(error.error == "invalid_scope", error)


def pyjwt():
    """A token holds with its issuer's set as another operator's node serves it, and a set holds for its own issuer only."""
    first, second = GIVEN["issuers"]
    sets = {issuer: jwt.PyJWKClient(url) for issuer, url in GIVEN["sets"].items()}
    required = {"require": ["aud", "exp", "iat", "iss", "jti", "sub"]}

    def decode(token, issuer):
        key = sets[issuer].get_signing_key_from_jwt(token)
        return jwt.decode(
            token, key, algorithms=["EdDSA"], audience=RESOURCE, issuer=issuer, options=required
        )

    claims = decode(GIVEN["tokens"][first], first)
    check(claims["sub"] == GIVEN["agents"][0]["did"] and claims["scope"] == "pay read", claims)
    decode(GIVEN["tokens"][second], second)
    # The first issuer's key under the second one's name.
    try:
        decode(GIVEN["lie"], second)
        raise AssertionError("one operator spoke for another")
    except jwt.exceptions.PyJWKClientError:
        pass
    for issuer, token in [(second, GIVEN["tokens"][first]), (first, GIVEN["tokens"][second])]:
        try:
            decode(token, issuer)
            raise AssertionError("another issuer's token")
        except jwt.exceptions.PyJWTError:
            pass


def pyjwt_signs():
    """PyJWT makes assertions of either curve, with what it has for that."""
    issuer = GIVEN["issuers"][0]
    with httpx2.Client(transport=Routes()) as http:
        for agent in GIVEN["agents"]:
            now = GIVEN["now"]
            claims = {
                "iss": agent["did"], "sub": agent["did"], "aud": issuer, "iat": now, "exp": now + 60,
                "jti": secrets.token_hex(16),
            }  # fmt: skip
            assertion = jwt.encode(claims, Path(agent["key"]).read_text(), algorithm=agent["algorithm"])
            form = {
                "grant_type": "client_credentials", "resource": RESOURCE, "client_assertion": assertion,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            }  # fmt: skip
            answer = http.post(f"{issuer}/oauth/token", data=form)
            check(answer.status_code == 200, answer.text)
            answer = http.post(f"{issuer}/oauth/token", data=form)
            check(answer.status_code == 401 and answer.json()["code"] == "used", answer.text)


class Memory:
    """Where the SDK keeps what it gets."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def who_am_i(agent, scope):
    """What a tool of the MCP server answers to an agent that signs in by client credentials."""
    signing = SignedJWTParameters(
        issuer=agent["handle"], subject=agent["handle"], signing_key=Path(agent["key"]).read_text(),
        signing_algorithm=agent["algorithm"],
    )  # fmt: skip
    provider = PrivateKeyJWTOAuthProvider(
        server_url=GIVEN["mcp"], storage=Memory(), client_id=agent["handle"], scope=scope,
        assertion_provider=signing.create_assertion_provider(), issuer=GIVEN["issuers"][0],
    )  # fmt: skip
    async with httpx2.AsyncClient(auth=provider, transport=AsyncRoutes(), timeout=60) as http:
        async with Client(streamable_http_client(GIVEN["mcp"], http_client=http)) as client:
            result = await client.call_tool("whoami", {})
            return "".join(block.text for block in result.content if block.type == "text")


def mcp():
    """The protocol's SDK finds the issuer by itself, and signs in at an MCP server with a key of each curve."""
    for agent in GIVEN["agents"]:
        said = asyncio.run(who_am_i(agent, "read"))
        check(agent["handle"] in said, said)


if __name__ == "__main__":
    {"authlib": authlib, "mcp": mcp, "pyjwt": pyjwt, "pyjwt_signs": pyjwt_signs}[sys.argv[1]]()
