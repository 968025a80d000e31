/** The snippets are what the guide promises: constructed so, called so, for every vendor. */
import { describe, expect, it } from "vitest";
import { KEY_PLACEHOLDER, envFile, snippetsOf } from "../../src/snippets";
import type { Target } from "../../src/snippets";

const URL_ = "https://gw.example/acme/chat";
const KEY = "lgk_abc_secret";

const target = (over: Partial<Target> = {}): Target => ({
  invokeUrl: URL_,
  apiKey: KEY,
  model: "the-model",
  streaming: false,
  keyHeaders: ["x-api-key", "authorization", "api-key", "x-goog-api-key"],
  ...over,
});

const code = (template: string, tab: string, over: Partial<Target> = {}, dialect = "openai"): string => {
  const snippet = snippetsOf(template, dialect, target(over)).find((each) => each.id === tab);
  if (snippet === undefined) throw new Error(`${template} has no ${tab}`);
  return snippet.code;
};

const TEMPLATES = [
  "openai",
  "openai-compatible",
  "azure-openai",
  "azure-ai-foundry",
  "anthropic",
  "gemini",
  "mistral",
  "aws-bedrock",
];

describe.each(TEMPLATES)("the snippets of %s", (template) => {
  it.each([false, true])("name URL, key and model in every language (streaming: %s)", (streaming) => {
    for (const snippet of snippetsOf(template, "openai", target({ streaming }))) {
      expect(snippet.code, snippet.id).toContain(URL_);
      expect(snippet.code, snippet.id).toContain(KEY);
      if (snippet.id !== "env") expect(snippet.code, snippet.id).toContain("the-model");
      expect(snippet.code, snippet.id).not.toMatch(/undefined|\[object/);
    }
  });

  it("begin with curl and end with the environment", () => {
    const ids = snippetsOf(template, "openai", target()).map((snippet) => snippet.id);
    expect(ids[0]).toBe("curl");
    expect(ids.at(-1)).toBe("env");
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("send curl's body as JSON", () => {
    const body = /-d '(.*)'$/s.exec(code(template, "curl"))?.[1];
    expect(() => JSON.parse(body ?? "") as unknown).not.toThrow();
  });
});

describe("the Python examples", () => {
  it("construct OpenAI with /v1 and the header", () => {
    expect(code("openai", "python")).toBe(`from openai import OpenAI

INVOKE_URL = "https://gw.example/acme/chat/v1"
API_KEY = "lgk_abc_secret"

client = OpenAI(
    api_key=API_KEY,
    base_url=INVOKE_URL,
    default_headers={"X-API-Key": API_KEY},
)

response = client.chat.completions.create(
    model="the-model",
    messages=[{"role": "user", "content": "What is an AI gateway?"}],
)

print(response.choices[0].message.content)`);
  });

  it("stream OpenAI chunk by chunk", () => {
    expect(code("openai", "python", { streaming: true })).toContain(`stream = client.chat.completions.create(
    model="the-model",
    messages=[{"role": "user", "content": "Count from 1 to 5."}],
    stream=True,
)

for chunk in stream:
    delta = chunk.choices[0].delta.content if chunk.choices else None
    if delta:
        print(delta, end="", flush=True)`);
  });

  it("construct Anthropic with its own key parameter alone", () => {
    expect(code("anthropic", "python")).toBe(`import anthropic

INVOKE_URL = "https://gw.example/acme/chat"
API_KEY = "lgk_abc_secret"

client = anthropic.Anthropic(
    api_key=API_KEY,
    base_url=INVOKE_URL,
)

response = client.messages.create(
    model="the-model",
    max_tokens=1024,
    messages=[{"role": "user", "content": "What is an AI gateway?"}],
)

print(response.content[0].text)`);
    expect(code("anthropic", "python", { streaming: true })).toContain(`with client.messages.stream(
    model="the-model",
    max_tokens=1024,
    messages=[{"role": "user", "content": "Count from 1 to 5."}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)`);
  });

  it("construct Gemini with a placeholder and the header", () => {
    expect(code("gemini", "python")).toBe(`from google import genai
from google.genai import types as genai_types

INVOKE_URL = "https://gw.example/acme/chat"
API_KEY = "lgk_abc_secret"

http_options = genai_types.HttpOptions(
    base_url=INVOKE_URL,
    headers={"X-API-Key": API_KEY},
)

client = genai.Client(api_key="placeholder", http_options=http_options)

response = client.models.generate_content(
    model="the-model",
    contents="What is an AI gateway?",
)

print(response.text)`);
    expect(code("gemini", "python", { streaming: true })).toContain(`for chunk in client.models.generate_content_stream(
    model="the-model",
    contents="Count from 1 to 5.",
):
    if chunk.text:
        print(chunk.text, end="", flush=True)`);
  });

  it("construct Mistral with the hook that adds the header", () => {
    expect(code("mistral", "python")).toBe(`import httpx
from mistralai import Mistral

INVOKE_URL = "https://gw.example/acme/chat"
API_KEY = "lgk_abc_secret"

def _inject_api_key(request):
    request.headers["X-API-Key"] = API_KEY

http_client = httpx.Client(
    event_hooks={"request": [_inject_api_key]},
)

client = Mistral(
    api_key=API_KEY,
    server_url=INVOKE_URL,
    client=http_client,
)

response = client.chat.complete(
    model="the-model",
    messages=[{"role": "user", "content": "What is an AI gateway?"}],
)

print(response.choices[0].message.content)`);
    expect(code("mistral", "python", { streaming: true })).toContain(`with client.chat.stream(
    model="the-model",
    messages=[{"role": "user", "content": "Count from 1 to 5."}],
) as stream:
    for event in stream:
        if event.data.choices and event.data.choices[0].delta.content:
            print(event.data.choices[0].delta.content, end="", flush=True)`);
  });

  it("construct AzureOpenAI with endpoint, version and the header", () => {
    expect(code("azure-openai", "python")).toBe(`from openai import AzureOpenAI

INVOKE_URL = "https://gw.example/acme/chat"
API_KEY = "lgk_abc_secret"

client = AzureOpenAI(
    api_key=API_KEY,
    azure_endpoint=INVOKE_URL,
    api_version="2024-06-01",
    default_headers={"X-API-Key": API_KEY},
)

response = client.chat.completions.create(
    model="the-model",
    messages=[{"role": "user", "content": "What is an AI gateway?"}],
)

print(response.choices[0].message.content)`);
  });
});

describe("the environment", () => {
  it("names the vendor's variables where its SDK is let in", () => {
    expect(envFile("openai", "openai", target())).toBe(
      `LOCKGATE_INVOKE_URL=${URL_}\nLOCKGATE_API_KEY=${KEY}\nOPENAI_BASE_URL=${URL_}/v1\nOPENAI_API_KEY=${KEY}\n`,
    );
  });

  it("leaves them out where the SDK's own place is not read", () => {
    expect(envFile("openai", "openai", target({ keyHeaders: ["x-api-key"] }))).not.toContain("OPENAI_");
  });
});

describe("a custom template", () => {
  it("is spoken as its dialect", () => {
    expect(code("our-claude", "python", {}, "anthropic")).toContain("anthropic.Anthropic(");
    expect(code("our-claude", "python", { apiKey: KEY_PLACEHOLDER }, "unheard-of")).toContain("OpenAI(");
  });
});

it("a quote in a model's name cannot leave its shell word", () => {
  expect(code("openai", "curl", { model: "it's" })).toContain(`it'\\''s`);
});
