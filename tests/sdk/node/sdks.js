// The SDKs behind one shape, each constructed as a developer would. Retries are off: a test wants to see the first
// answer. `key` null: the SDK sends none.

import { connect } from "node:net";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import Anthropic from "@anthropic-ai/sdk";
import { ApiError, GoogleGenAI } from "@google/genai";
import { HTTPClient, Mistral } from "@mistralai/mistralai";
import { MistralError } from "@mistralai/mistralai/models/errors/mistralerror.js";
import OpenAI, { AzureOpenAI } from "openai";

// This SDK's sockets are always TLS. Here nothing terminates it before the gateway, so they are plain underneath.
const options = { createConnection: ({ host, port }) => connect({ host, port }) };
const QUESTION = [{ role: "user", content: "Count from 1 to 3." }];
const status = (error) => error.status ?? error.statusCode;

class OpenAiSdk {
  errors = {
    400: OpenAI.BadRequestError,
    401: OpenAI.AuthenticationError,
    404: OpenAI.NotFoundError,
    429: OpenAI.RateLimitError,
    500: OpenAI.InternalServerError,
    502: OpenAI.InternalServerError,
  };

  constructor({ invokeUrl, model }, key) {
    const defaultHeaders = key ? { "X-API-Key": key } : { Authorization: null };
    this.client = new OpenAI({ apiKey: key ?? "unused", baseURL: `${invokeUrl}/v1`, defaultHeaders, maxRetries: 0 });
    this.model = model;
  }

  async ask() {
    const answer = await this.client.chat.completions.create({ model: this.model, messages: QUESTION });
    return answer.choices[0].message.content;
  }

  async *texts(signal) {
    const body = { model: this.model, messages: QUESTION, stream: true };
    for await (const chunk of await this.client.chat.completions.create(body, { signal })) {
      if (chunk.choices[0]?.delta.content) yield chunk.choices[0].delta.content;
    }
  }

  header = (error, name) => error.headers.get(name);

  realtime() {
    return OpenAIRealtimeWS.create(this.client, { model: this.model, options });
  }
}

class AzureSdk extends OpenAiSdk {
  constructor(endpoint, key) {
    super(endpoint, key);
    const defaultHeaders = key ? { "X-API-Key": key } : { "api-key": null };
    const options = { endpoint: endpoint.invokeUrl, apiVersion: "2024-06-01", defaultHeaders, maxRetries: 0 };
    this.client = new AzureOpenAI({ apiKey: key ?? "unused", deployment: endpoint.model, ...options });
  }

  realtime() {
    return OpenAIRealtimeWS.azure(this.client, { options });
  }
}

class AnthropicSdk {
  errors = {
    400: Anthropic.BadRequestError,
    401: Anthropic.AuthenticationError,
    404: Anthropic.NotFoundError,
    429: Anthropic.RateLimitError,
    500: Anthropic.InternalServerError,
    502: Anthropic.InternalServerError,
  };

  constructor({ invokeUrl, model }, key) {
    const defaultHeaders = key ? {} : { "X-Api-Key": null, Authorization: null };
    this.client = new Anthropic({ apiKey: key ?? "unused", baseURL: invokeUrl, defaultHeaders, maxRetries: 0 });
    this.body = { model, max_tokens: 64, messages: QUESTION };
  }

  async ask() {
    return (await this.client.messages.create(this.body)).content[0].text;
  }

  async *texts(signal) {
    for await (const event of this.client.messages.stream(this.body, { signal })) {
      if (event.type === "content_block_delta") yield event.delta.text;
    }
  }

  header = (error, name) => error.headers.get(name);
}

class GeminiSdk {
  errors = Object.fromEntries([400, 401, 404, 429, 500, 502].map((code) => [code, ApiError]));

  constructor({ invokeUrl, model }, key) {
    // Without the header the placeholder is all that travels: what a developer sees who forgot it.
    const httpOptions = { baseUrl: invokeUrl, headers: key ? { "X-API-Key": key } : {} };
    this.client = new GoogleGenAI({ apiKey: "placeholder", httpOptions });
    this.model = model;
  }

  request = (signal) => ({ model: this.model, contents: "Count from 1 to 3.", config: { abortSignal: signal } });

  async ask() {
    return (await this.client.models.generateContent(this.request())).text;
  }

  async *texts(signal) {
    for await (const chunk of await this.client.models.generateContentStream(this.request(signal))) {
      if (chunk.text) yield chunk.text;
    }
  }
}

class MistralSdk {
  errors = Object.fromEntries([400, 401, 404, 429, 500, 502].map((code) => [code, MistralError]));

  constructor({ invokeUrl, model }, key) {
    const httpClient = new HTTPClient();
    httpClient.addHook("beforeRequest", (request) => {
      const changed = new Request(request);
      if (key) changed.headers.set("X-API-Key", key);
      else changed.headers.delete("authorization");
      return changed;
    });
    const retryConfig = { strategy: "none" };
    this.client = new Mistral({ apiKey: key ?? "unused", serverURL: invokeUrl, httpClient, retryConfig });
    this.body = { model, messages: QUESTION };
  }

  async ask() {
    return (await this.client.chat.complete(this.body)).choices[0].message.content;
  }

  async *texts(signal) {
    for await (const event of await this.client.chat.stream(this.body, { fetchOptions: { signal } })) {
      if (event.data.choices[0]?.delta.content) yield event.data.choices[0].delta.content;
    }
  }

  header = (error, name) => error.headers.get(name);
}

const SDKS = {
  openai: OpenAiSdk,
  anthropic: AnthropicSdk,
  gemini: GeminiSdk,
  mistral: MistralSdk,
  "azure-openai": AzureSdk,
};

export const VENDORS = Object.keys(SDKS);

/** A client for the endpoint, with its own key unless another is given. */
export function sdk(endpoint, key = endpoint.key) {
  return new SDKS[endpoint.vendor](endpoint, key);
}

/** What an error of an SDK says of itself. */
export function read(client, error) {
  return { status: status(error), text: `${error.message}`, header: (name) => client.header?.(error, name) };
}
