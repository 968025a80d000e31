"""The code of docs/guide/sdks.md, word for word: only the URL, the key and Azure's deployment name are filled in."""

import contextlib
import io
import os
import re
from pathlib import Path

import pytest
from conftest import KINDS, VENDORS

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "sdks.md"
HEADINGS = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "mistral": "Mistral AI",
    "azure-openai": "Azure OpenAI",
}


def examples(vendor):
    """The basic and the streaming example of a vendor."""
    sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)
    (section,) = [section for section in sections if section.split("\n", 1)[0] == HEADINGS[vendor]]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 2, f"{HEADINGS[vendor]}: a basic example and a streaming one, not {len(blocks)}"
    return blocks


def run(endpoint, streaming):
    """Pastes the example and gives what it printed."""
    basic, stream = examples(endpoint.vendor)
    host_and_context = endpoint.invoke_url.removeprefix("http://")
    basic = basic.replace("https://<gateway-host>/<context>", f"http://{host_and_context}")
    basic = basic.replace("<your-gateway-api-key>", endpoint.key)
    if os.environ["LOCKGATE_SDK_ENVIRONMENT"] == "current" and endpoint.vendor == "mistral":
        # What the guide says about later majors: the class moved, and so did the HTTP library.
        assert "from mistralai import Mistral" in basic
        basic = basic.replace("from mistralai import Mistral", "from mistralai.client import Mistral")
        basic = basic.replace("import httpx\n", "import httpx2 as httpx\n")
    code = basic + (stream if streaming else "")
    code = code.replace("<your-deployment-name>", endpoint.model)
    assert "<" not in re.sub(r"<=|->", "", code), f"something is left to fill in:\n{code}"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"{GUIDE.name}: {endpoint.vendor}", "exec"), {"__name__": "pasted"})
    return printed.getvalue()


@pytest.mark.parametrize("streaming", [False, True], ids=["basic", "streaming"])
def test_the_documented_code_gets_its_answer(endpoint, streaming, vendors):
    printed = run(endpoint, streaming)
    expected = endpoint.text + "\n" + (endpoint.text if streaming else "")
    assert printed == expected
    arrived = vendors.seen(endpoint.vendor)
    assert [request["end"] for request in arrived] == ["answered"] * (2 if streaming else 1)


@pytest.mark.parametrize("streaming", [False, True], ids=["basic", "streaming"])
@pytest.mark.parametrize("sample", [(vendor, kind) for vendor in VENDORS for kind in KINDS], indirect=True, ids="-".join)
def test_the_documented_code_gets_an_answer_from_the_sample_upstream(sample, streaming):
    printed = run(sample, streaming)
    first, _, second = printed.partition("\n")
    assert first.strip(), "the basic example must print an answer"
    if streaming:
        assert second.strip(), "the streaming example must print an answer"
