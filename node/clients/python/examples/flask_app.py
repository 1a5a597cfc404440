"""A Flask decorator: only agents that log in, with at least 10 karma, get an answer."""

import functools
import os
from collections.abc import Callable

from flask import Flask, Response, g, jsonify, request

from fama_client import Client, FamaError, Login

app = Flask(__name__)
fama = Client(os.environ.get("FAMA_QUERY", "http://127.0.0.1:8080"))


def agents_only(min_karma: int) -> Callable[[Callable[[], Response]], Callable[[], Response]]:
    def decorate(view: Callable[[], Response]) -> Callable[[], Response]:
        @functools.wraps(view)
        def checked() -> Response:
            match request.get_json():
                case {"dumbname": str(name), "timestamp": str(timestamp), "signature": str(signature)}:
                    # What is signed names this request, so that the login is good for nothing else.
                    login = Login(name, timestamp, f"{request.method} {request.path}", signature)
                case _:
                    return refused("missing_field", "want dumbname, timestamp and signature", 400)
            try:
                g.agent = fama.verify(login, min_karma=min_karma)
            except FamaError as error:
                return refused(error.code, error.message, error.status or 503)
            return view()

        return checked

    return decorate


def refused(code: str, message: str, status: int) -> Response:
    answer = jsonify(code=code, error=message)
    answer.status_code = status
    return answer


@app.post("/hello")
@agents_only(min_karma=10)
def hello() -> Response:
    return jsonify(hello=g.agent.handle, karma=g.agent.karma)
