"""A client of the Model Context Protocol, driven line by line.

The first line on stdin is a JSON object that says whom to connect to and how: `command` (a list) or `url` with
`headers`; `mode`, as the SDK names it; `elicits`, whether the client says that it can ask its user. Every further line
is one request: `{"list": true}` or `{"tool", "arguments", "answer"}`, where `answer` is what the user says when asked:
"accept", "decline", "cancel", "unchecked". Every answer is one line, with what the user was asked (`asked`).
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult


class User:
    """Answers every question in the same way, and remembers it."""

    def __init__(self):
        self.answer, self.asked = "decline", []

    async def __call__(self, _context, params):
        self.asked.append(params.message)
        if self.answer == "accept":
            return ElicitResult(action="accept", content={"sign": True})
        if self.answer == "unchecked":
            return ElicitResult(action="accept", content={"sign": False})
        return ElicitResult(action=self.answer)


async def serve(client, user):
    say({"protocol": client.session.protocol_version, "instructions": client.session.instructions})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        user.answer, user.asked = request.get("answer", "decline"), []
        try:
            if request.get("list"):
                tools = (await client.list_tools()).tools
                say({"tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]})
                continue
            result = await client.call_tool(request["tool"], request["arguments"])
            text = "".join(block.text for block in result.content if block.type == "text")
            say({"error": bool(result.is_error), "structured": result.structured_content, "text": text, "asked": user.asked})
        except Exception as error:  # A protocol error: the test says whether it is right.
            say({"protocol_error": f"{type(error).__name__}: {error}"})


def say(answer):
    print(json.dumps(answer), flush=True)


async def main():
    plan = json.loads(sys.stdin.readline())
    user = User()
    options = {"mode": plan["mode"], "elicitation_callback": user if plan["elicits"] else None}
    if "url" in plan:
        async with httpx2.AsyncClient(headers=plan["headers"], timeout=60, trust_env=False) as http:
            async with Client(streamable_http_client(plan["url"], http_client=http), **options) as client:
                await serve(client, user)
    else:
        program, *args = plan["command"]
        server = StdioServerParameters(command=program, args=args, env=plan["env"])
        async with Client(server, **options) as client:
            await serve(client, user)


asyncio.run(main())
