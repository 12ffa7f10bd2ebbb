"""A server tried: started, asked the same by several adapters through OpenAI's client, and stopped."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fourierft.errors import BackendError, ConfigError
from fourierft.extras import needs
from fourierft.rows.names import BASE
from fourierft.serving.launch import ServeSettings, command, environment, served_name
from fourierft.serving.process import free_port, running
from fourierft.store import AdapterStore

LONGEST = 64  # tokens of an answer
WIDTH = 100  # of the answers, side by side


@contextmanager
def alone(settings: ServeSettings) -> Iterator[ServeSettings]:
    """The same server for nobody else: on this machine, at a port that is kept for it inside.

    Raises: ConfigError, if it asks for keys.
    """
    if settings.tenants is not None:
        raise ConfigError("--ask cannot be used with --tenants, because it has no key; leave --tenants out")
    with free_port() as port:
        yield replace(settings, host="127.0.0.1", port=port)


def find_asked(settings: ServeSettings, names: Sequence[str]) -> list[str]:
    """What a server calls whom it is to ask, before it starts: adapters of its store, `__base__` for the base.

    Args:
        settings: of the server.
        names: adapters, also NAME@VERSION, `__base__`, or the base's own name; the base if there are none.

    Raises: MissingAdapterError, if the store has not got one.
    """
    base = served_name(settings.model)
    asked = [base if name == BASE else name for name in names or [BASE]]
    with AdapterStore(settings.store, create=False) as store:
        for name in asked:
            if name != base:
                store.resolve(name)
    return asked


def try_out(settings: ServeSettings, names: Sequence[str], question: str) -> dict[str, str]:
    """Start a server, ask, and stop it.

    Args:
        settings: of the server, from `alone`.
        names: adapters to ask, or the base's.
        question: for all of them.

    Returns: name -> answer.

    Raises: BackendError, if the server does not come up or does not answer. MissingExtraError, without the client.
    """
    address = f"http://{settings.host}:{settings.port}"
    client = connect(f"{address}/v1")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(command(settings), address, Path(folder) / "server.log", environment(settings)),
    ):
        return ask(client, names, question)


def connect(address: str, http_client: Any = None) -> Any:
    """OpenAI's client.

    Raises: MissingExtraError, if it is not installed.
    """
    with needs("serve", "asking a server"):
        import openai
    return openai.OpenAI(base_url=address, api_key="none", http_client=http_client, max_retries=0)


def ask(client: Any, names: Sequence[str], question: str) -> dict[str, str]:
    """Ask all of them at once, greedily: name -> answer.

    Raises: BackendError, if one does not answer.
    """
    with needs("serve", "asking a server"):
        import openai

    def answer(name: str) -> str:
        message = {"role": "user", "content": question}
        reply = client.chat.completions.create(model=name, messages=[message], max_tokens=LONGEST, temperature=0)
        return reply.choices[0].message.content or ""

    try:
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(answer, names), strict=True))
    except openai.OpenAIError as error:
        raise BackendError(f"the server did not answer: {error}") from error


def side_by_side(answers: Mapping[str, str]) -> str:
    """Answers in columns, headed by their names."""
    width = max(16, WIDTH // len(answers) - 2)
    columns = [
        [
            name,
            "-" * min(width, len(name)),
            *(line for part in text.splitlines() for line in textwrap.wrap(part, width)),
        ]
        for name, text in answers.items()
    ]
    return "\n".join(
        "  ".join(f"{part:{width}}" for part in line).rstrip() for line in zip_longest(*columns, fillvalue="")
    )
