"""A real server of OpenAI's completions over a model of ours, in a process of its own, that fails as it is told to.

    python tests/policies/completions_server.py MODEL_FOLDER

It speaks `/v1/models`, `/v1/completions` (text or ids, `n`, `logprobs`, `echo`, vLLM's `return_token_ids`) and
`/v1/chat/completions`. It prints its URL when it is ready, and ends with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

ROOT = Path(__file__).parents[2]
MODEL = "teacher"
ENGINE: dict[str, Any] = {"rows": 4, "block": 8, "widths": (1024,), "chunk": 256, "extend_rows": 1}
"""Its sampler's settings: what its bits depend on."""


@dataclass(frozen=True)
class Served:
    """A running server, as its tests see it."""

    url: str

    def plan(
        self,
        *faults: str,
        forgetful: bool = False,
        one_at_a_time: bool = False,
        key: str | None = None,
        says: Sequence[str] = (),
        models: Sequence[str] | None = (MODEL,),
    ) -> None:
        """How the next requests are treated, in order: a status, slow, garbage, disconnect, exit, or fine.

        forgetful: seeds are ignored, so that a question has another answer each time; one_at_a_time: so is `n`; key:
        what requests have to bear; says: the next replies' texts, in the model's place; models: the names it lists,
        None when it is too busy for that.
        """
        self._tell("plan", asdict(Plan(faults, forgetful, one_at_a_time, key, says, models)))

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far, those that were failed included."""
        return self._tell("asked", None)

    def _tell(self, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/{path}", data) as response:
            return json.loads(response.read())


@dataclass(frozen=True)
class Plan:
    """How a server behaves; the sentences are those of `Served.plan`."""

    faults: Sequence[str] = ()
    forgetful: bool = False
    one_at_a_time: bool = False
    key: str | None = None
    says: Sequence[str] = ()
    models: Sequence[str] | None = (MODEL,)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A server over the model in a folder."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the server did not start"
        yield Served(url)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def write_teacher(folder: Path) -> Path:
    """The folder of a random two-layer model with a tokenizer of its own, Llama-3-like."""
    from rest_jax.models import tokenizer
    from tests.models.tokenizers_for_tests import llama3_like
    from tests.recipes.tiny_runs import write_tiny_model

    tokens = llama3_like(folder / "tokenizer")
    (tokens / "config.json").write_text("{}")
    return write_tiny_model(folder / "model", tokens, vocab=tokenizer.load(tokens).vocab_size)


class Worker:
    """The engine in its own thread: requests in, candidates out."""

    def __init__(self, folder: Path) -> None:
        from rest_jax.config.settings import EngineSettings
        from rest_jax.core.cache import cache_folder
        from rest_jax.distributed.compilation import keep_compiled
        from rest_jax.models import checkpoint
        from rest_jax.sampling.engine import Engine

        keep_compiled(cache_folder() / "compiled")
        settings = EngineSettings(**ENGINE)
        model = checkpoint.load(folder)
        self._engine = Engine(model, settings)
        self.codec = model.codec
        self.context = min(max(settings.widths), model.config.max_positions)
        self._inbox: queue.SimpleQueue[tuple[Any, Future[Any]]] = queue.SimpleQueue()
        self._ids = itertools.count()
        threading.Thread(target=self._work, daemon=True).start()

    async def ask(self, make: Any) -> Any:
        """The candidate of the request that `make(id, session)` makes."""
        future: Future[Any] = Future()
        id = next(self._ids)
        self._inbox.put((make(id, id), future))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        waiting: dict[int, Future[Any]] = {}
        while True:
            while len(waiting) < self._engine.sessions and (not waiting or not self._inbox.empty()):
                request, future = self._inbox.get()
                waiting[request.id] = future
                self._engine.submit(request)
            for id, candidate in self._engine.step():
                self._engine.release(id)
                waiting.pop(id).set_result(candidate)


class App:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.codec = worker.codec
        self.plan = Plan()
        self.faults: list[str] = []
        self.says: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.count = itertools.count(1)

    async def models(self, request: web.Request) -> web.Response:
        self._authorise(request)
        if self.plan.models is None:
            raise self._refusal(503, "The server is overloaded.")
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self.plan.models]}
        )

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, await request.json())

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        chat = self.codec.chat
        turns = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}
        ids = [*self.codec.bos_ids, *self.codec.encode_trusted(chat.begin)]
        for message in body["messages"]:
            before, after = turns[message["role"]]
            ids += self.codec.encode_trusted(before) + self.codec.encode_untrusted(message["content"])
            ids += self.codec.encode_trusted(after)
        ids += self.codec.encode_trusted(chat.assistant[0])
        return await self._answer(request, {**body, "prompt": ids})

    async def set_plan(self, request: web.Request) -> web.Response:
        self.plan = Plan(**await request.json())
        self.faults, self.says = list(self.plan.faults), list(self.plan.says)
        return web.json_response({})

    async def asked(self, request: web.Request) -> web.Response:
        return web.json_response(self.bodies)

    def _authorise(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if self.plan.key is not None and given != f"Bearer {self.plan.key}":
            raise self._refusal(401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}.")

    def _refusal(self, status: int, message: str, **headers: str) -> web.HTTPException:
        body = json.dumps({"error": {"message": message, "code": status}})
        kind = type("Refusal", (web.HTTPException,), {"status_code": status})
        return kind(text=body, headers=headers, content_type="application/json")

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self._authorise(request)
        self.bodies.append(body)
        fault = self.faults.pop(0) if self.faults else "fine"
        if fault.isdecimal():
            words = "told to fail; your limits: https://api.example/account/billing"
            raise self._refusal(
                int(fault),
                words,
                **({"Retry-After": "0"} if fault == "429" else {}),
            )
        if fault == "slow":
            await asyncio.Event().wait()
        if fault == "garbage":
            return web.Response(body=b'{"choices": [{"index": 0, "text"', content_type="application/json")
        if fault == "exit":
            os._exit(1)
        if fault == "disconnect":
            assert request.transport is not None
            request.transport.abort()
        if body["model"] != MODEL:
            raise self._refusal(404, f"The model `{body['model']}` does not exist.")
        return web.json_response(await self._completion(body, chat="messages" in body))

    async def _completion(self, body: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        from rest_jax.core.effects import Candidate, Finish
        from rest_jax.core.policy import ScoreRequest

        prompt = body["prompt"]
        ids = tuple(prompt) if isinstance(prompt, list) else self.codec.bos_ids + self.codec.encode_trusted(prompt)
        most = body["max_tokens"]
        if len(ids) + most > self.worker.context:
            raise self._refusal(400, f"This model's maximum context length is {self.worker.context} tokens.")
        # Taken as it comes: a request that its client has given up would else take a word of the plan that follows.
        said = self.says.pop(0) if self.says else None
        n = 1 if self.plan.one_at_a_time else body.get("n", 1)
        candidates = await asyncio.gather(*(self.worker.ask(self._request(body, ids, at)) for at in range(n)))
        if said is not None:
            candidates = [Candidate((), None, said, Finish.STOP)]
        choices = [self._choice(body, candidate, at, ids, chat=chat) for at, candidate in enumerate(candidates)]
        if body.get("echo"):
            scored = await self.worker.ask(lambda id, session: ScoreRequest(id, session, ids[:1], ids[1:]))
            sampled = choices[0]["logprobs"]["token_logprobs"]
            choices[0]["logprobs"]["token_logprobs"] = [None, *scored.logprobs, *sampled]
        used = sum(len(candidate.ids) for candidate in candidates)
        return {"model": MODEL, "choices": choices, "usage": {"prompt_tokens": len(ids), "completion_tokens": used}}

    def _request(self, body: dict[str, Any], ids: tuple[int, ...], candidate: int) -> Any:
        from rest_jax.core.effects import Sampling
        from rest_jax.core.keys import KeyPath
        from rest_jax.core.policy import Request

        seed = next(self.count) if self.plan.forgetful else body.get("seed", 0)
        sampling = Sampling(*(body.get(name, plain) for name, plain in _SAMPLING.items()))
        key = KeyPath(seed, 0, "server", 0, 0, 0, candidate)
        return lambda id, session: Request(
            id, session, ids, key, body["max_tokens"], tuple(body.get("stop", ())), sampling
        )

    def _choice(
        self, body: dict[str, Any], candidate: Any, at: int, prompt: tuple[int, ...], *, chat: bool
    ) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": candidate.text}} if chat else {"text": candidate.text}
        choice = {"index": at, **said, "finish_reason": "length" if candidate.finish == "length" else "stop"}
        if body.get("logprobs"):
            choice["logprobs"] = {"token_logprobs": list(candidate.logprobs)}
        if body.get("return_token_ids"):
            choice |= {"token_ids": list(candidate.ids), "prompt_token_ids": list(prompt)}
        return choice


_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    served = App(Worker(parser.parse_args().model))
    app = web.Application(client_max_size=2**26)
    app.router.add_get("/v1/models", served.models)
    app.router.add_post("/v1/completions", served.completions)
    app.router.add_post("/v1/chat/completions", served.chat)
    app.router.add_post("/plan", served.set_plan)
    app.router.add_get("/asked", served.asked)

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # requests that were told to be slow would be waited for

    asyncio.run(serve())


if __name__ == "__main__":
    main()
