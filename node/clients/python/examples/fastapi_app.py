"""A FastAPI dependency: only agents that log in, with at least 10 karma, get an answer."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from fama_client import AsyncClient, FamaError, Login, Verified

app = FastAPI()
fama = AsyncClient(os.environ.get("FAMA_QUERY", "http://127.0.0.1:8080"))


class LoginBody(BaseModel):
    dumbname: str
    timestamp: str
    signature: str


async def agent(body: LoginBody, request: Request) -> Verified:
    # What is signed names this request, so that the login is good for nothing else.
    message = f"{request.method} {request.url.path}"
    try:
        return await fama.verify(Login(body.dumbname, body.timestamp, message, body.signature), min_karma=10)
    except FamaError as error:
        wait = {"retry-after": str(int(error.retry_after))} if error.retry_after else None
        raise HTTPException(error.status or 503, {"code": error.code, "error": error.message}, wait) from error


@app.post("/hello")
async def hello(who: Annotated[Verified, Depends(agent)]) -> dict[str, object]:
    return {"hello": who.handle, "karma": who.karma}
