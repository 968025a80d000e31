"""The five SDKs behind one shape, for what the documented examples do not show: errors and cancelling.

Each client is constructed as the documentation does it. Retries are off: a test wants to see the first answer.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

try:
    from mistralai import Mistral, models

    MistralError = models.SDKError
    import httpx as mistral_httpx
except ImportError:
    # From 2 on; and from 3 on the SDK is built on another HTTP library.
    from mistralai.client import Mistral
    from mistralai.client.errors import SDKError as MistralError

    import httpx2 as mistral_httpx

QUESTION = [{"role": "user", "content": "Count from 1 to 3."}]


@dataclass
class Raised:
    """What an SDK's exception says."""

    error: Exception
    status: int
    text: str
    headers: dict = field(default_factory=dict)


class OpenAiSdk:
    def __init__(self, endpoint, key):
        headers = {"X-API-Key": key} if key else {}
        self.omitted = {} if key else {"Authorization": openai.Omit()}
        self.client = openai.OpenAI(
            api_key=key or "unused", base_url=endpoint.invoke_url + "/v1", default_headers=headers, max_retries=0
        )
        self.model = endpoint.model

    def ask(self):
        answer = self.client.chat.completions.create(model=self.model, messages=QUESTION, extra_headers=self.omitted)
        return answer.choices[0].message.content

    @contextmanager
    def texts(self):
        with self.client.chat.completions.create(
            model=self.model, messages=QUESTION, stream=True, extra_headers=self.omitted
        ) as stream:
            yield (chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content)

    errors = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        502: openai.InternalServerError,
    }

    @staticmethod
    def read(error):
        return Raised(error, error.status_code, error.message, error.response.headers)


class AzureSdk(OpenAiSdk):
    def __init__(self, endpoint, key):
        headers = {"X-API-Key": key} if key else {}
        self.omitted = {} if key else {"api-key": openai.Omit()}
        self.client = openai.AzureOpenAI(
            api_key=key or "unused",
            azure_endpoint=endpoint.invoke_url,
            api_version="2024-06-01",
            default_headers=headers,
            max_retries=0,
        )
        self.model = endpoint.model


class AnthropicSdk:
    def __init__(self, endpoint, key):
        headers = {} if key else {"X-Api-Key": anthropic.Omit(), "Authorization": anthropic.Omit()}
        self.client = anthropic.Anthropic(
            api_key=key or "unused", base_url=endpoint.invoke_url, default_headers=headers, max_retries=0
        )
        self.model = endpoint.model

    def ask(self):
        return self.client.messages.create(model=self.model, max_tokens=64, messages=QUESTION).content[0].text

    @contextmanager
    def texts(self):
        with self.client.messages.stream(model=self.model, max_tokens=64, messages=QUESTION) as stream:
            yield stream.text_stream

    errors = {
        400: anthropic.BadRequestError,
        401: anthropic.AuthenticationError,
        404: anthropic.NotFoundError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
        502: anthropic.InternalServerError,
    }

    @staticmethod
    def read(error):
        return Raised(error, error.status_code, error.message, error.response.headers)


class GeminiSdk:
    def __init__(self, endpoint, key):
        # Without the header the placeholder is all that travels: what a developer sees who forgot it.
        http_options = genai_types.HttpOptions(
            base_url=endpoint.invoke_url, headers={"X-API-Key": key} if key else {}
        )
        self.client = genai.Client(api_key="placeholder", http_options=http_options)
        self.model = endpoint.model

    def ask(self):
        return self.client.models.generate_content(model=self.model, contents="Count from 1 to 3.").text

    @contextmanager
    def texts(self):
        stream = self.client.models.generate_content_stream(model=self.model, contents="Count from 1 to 3.")
        try:
            yield (chunk.text for chunk in stream if chunk.text)
        finally:
            stream.close()

    errors = {
        400: genai_errors.ClientError,
        401: genai_errors.ClientError,
        404: genai_errors.ClientError,
        429: genai_errors.ClientError,
        500: genai_errors.ServerError,
        502: genai_errors.ServerError,
    }

    @staticmethod
    def read(error):
        assert error.status, f"Google's errors carry a status name: {error!r}"
        return Raised(error, error.code, error.message or "", getattr(error.response, "headers", {}))


class MistralSdk:
    def __init__(self, endpoint, key):
        def inject(request):
            if key:
                request.headers["X-API-Key"] = key
            else:
                request.headers.pop("authorization", None)

        http_client = mistral_httpx.Client(event_hooks={"request": [inject]})
        self.client = Mistral(api_key=key or "unused", server_url=endpoint.invoke_url, client=http_client)
        self.model = endpoint.model

    def ask(self):
        return self.client.chat.complete(model=self.model, messages=QUESTION).choices[0].message.content

    @contextmanager
    def texts(self):
        with self.client.chat.stream(model=self.model, messages=QUESTION) as stream:
            yield (
                event.data.choices[0].delta.content
                for event in stream
                if event.data.choices and event.data.choices[0].delta.content
            )

    errors = dict.fromkeys([400, 401, 404, 429, 500, 502], MistralError)

    @staticmethod
    def read(error):
        return Raised(error, error.status_code, str(error), error.headers)


SDKS = {
    "openai": OpenAiSdk,
    "anthropic": AnthropicSdk,
    "gemini": GeminiSdk,
    "mistral": MistralSdk,
    "azure-openai": AzureSdk,
}


def sdk(endpoint, key="its own"):
    """A client for the endpoint; `None` sends no key."""
    return SDKS[endpoint.vendor](endpoint, endpoint.key if key == "its own" else key)
