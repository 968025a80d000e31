"""Realtime sockets, by the SDKs that have them."""

import asyncio
import time

import openai
import pytest
from google import genai
from google.genai import live  # noqa: F401  (what is patched below)
from google.genai import types as genai_types


def parted(vendors, vendor):
    """One upgrade, and the farewell of both sides."""
    deadline = time.monotonic() + 5
    while True:
        seen = vendors.seen(vendor)
        if seen and seen[0]["end"] != "open":
            (request,) = seen
            assert request["end"] == "answered"
            return request
        assert time.monotonic() < deadline, "the conversation does not end"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["provider", "proxy"])
def test_a_conversation_of_openais_sdk(endpoints, vendors, kind):
    endpoint = endpoints["openai", kind]
    client = openai.OpenAI(
        api_key=endpoint.key,
        base_url=endpoint.invoke_url + "/v1",
        # Otherwise it would be TLS, which nothing terminates here.
        websocket_base_url=endpoint.invoke_url.replace("http://", "ws://") + "/v1",
    )
    text = ""
    with client.realtime.connect(model=endpoint.model) as connection:
        for event in connection:
            if event.type == "session.created":
                connection.session.update(session={"type": "realtime", "instructions": "Count."})
            elif event.type == "session.updated":
                connection.response.create()
            elif event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.done":
                break
    assert text == endpoint.text
    assert parted(vendors, "openai")["target"] == f"/v1/realtime?model={endpoint.model}"


def test_a_conversation_of_googles_sdk(endpoints, vendors, monkeypatch):
    connect = genai.live.ws_connect

    def plainly(uri, **options):
        # This SDK's sockets are always TLS, which nothing terminates here.
        return connect(uri.replace("wss:", "ws:"), **{name: value for name, value in options.items() if name != "ssl"})

    monkeypatch.setattr(genai.live, "ws_connect", plainly)
    endpoint = endpoints["gemini", "provider"]
    http_options = genai_types.HttpOptions(base_url=endpoint.invoke_url, headers={"X-API-Key": endpoint.key})
    client = genai.Client(api_key="placeholder", http_options=http_options)

    async def converse():
        text = ""
        async with client.aio.live.connect(model=endpoint.model) as session:
            turn = genai_types.Content(role="user", parts=[genai_types.Part(text="Count from 1 to 3.")])
            await session.send_client_content(turns=turn)
            async for message in session.receive():
                text += message.text or ""
        return text

    assert asyncio.run(converse()) == endpoint.text
    assert "BidiGenerateContent" in parted(vendors, "gemini")["target"]


def test_a_wrong_key_opens_nothing(endpoints, vendors):
    endpoint = endpoints["openai", "provider"]
    wrong = endpoint.key[:-1] + ("x" if endpoint.key[-1] != "x" else "y")
    client = openai.OpenAI(
        api_key=wrong,
        base_url=endpoint.invoke_url + "/v1",
        websocket_base_url=endpoint.invoke_url.replace("http://", "ws://") + "/v1",
    )
    with pytest.raises(Exception, match="401"), client.realtime.connect(model=endpoint.model):
        pass
    assert vendors.seen("openai") == []
