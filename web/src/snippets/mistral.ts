/** Mistral: the SDK sends its key as a bearer token; a hook adds the header the gateway reads first. */
import type { Recipe, Target } from "./text";
import { chatBody, curl, pythonConstants, question, quote, typescriptConstants, variables } from "./text";

const python = (target: Target): string => {
  const request = [
    `    model=${quote(target.model)},`,
    `    messages=[{"role": "user", "content": ${quote(question(target))}}],`,
  ];
  if (!target.streaming) {
    return [`response = client.chat.complete(`, ...request, `)`, ``, `print(response.choices[0].message.content)`].join(
      "\n",
    );
  }
  return [
    `with client.chat.stream(`,
    ...request,
    `) as stream:`,
    `    for event in stream:`,
    `        if event.data.choices and event.data.choices[0].delta.content:`,
    `            print(event.data.choices[0].delta.content, end="", flush=True)`,
  ].join("\n");
};

const typescript = (target: Target): string => {
  const request = [
    `  model: ${quote(target.model)},`,
    `  messages: [{ role: "user", content: ${quote(question(target))} }],`,
  ];
  if (!target.streaming) {
    return [
      `const response = await client.chat.complete({`,
      ...request,
      `});`,
      ``,
      `console.log(response.choices?.[0]?.message?.content);`,
    ].join("\n");
  }
  return [
    `const stream = await client.chat.stream({`,
    ...request,
    `});`,
    ``,
    `for await (const event of stream) {`,
    `  process.stdout.write(String(event.data.choices[0]?.delta.content ?? ""));`,
    `}`,
  ].join("\n");
};

export const mistral: Recipe[] = [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(`${target.invokeUrl}/v1/chat/completions`, [`X-API-Key: ${target.apiKey}`], chatBody(target), target),
  },
  {
    id: "python",
    label: "Python",
    language: "python",
    install: `pip install "mistralai<2" httpx`,
    code: (target) =>
      [
        `import httpx`,
        `from mistralai import Mistral`,
        ``,
        pythonConstants(target.invokeUrl, target),
        ``,
        `def _inject_api_key(request):`,
        `    request.headers["X-API-Key"] = API_KEY`,
        ``,
        `http_client = httpx.Client(`,
        `    event_hooks={"request": [_inject_api_key]},`,
        `)`,
        ``,
        `client = Mistral(`,
        `    api_key=API_KEY,`,
        `    server_url=INVOKE_URL,`,
        `    client=http_client,`,
        `)`,
        ``,
        python(target),
      ].join("\n"),
  },
  {
    id: "typescript",
    label: "TypeScript",
    language: "typescript",
    install: "npm install @mistralai/mistralai",
    code: (target) =>
      [
        `import { Mistral } from "@mistralai/mistralai";`,
        `import { HTTPClient } from "@mistralai/mistralai/lib/http.js";`,
        ``,
        typescriptConstants(target.invokeUrl, target),
        ``,
        `const httpClient = new HTTPClient();`,
        `httpClient.addHook("beforeRequest", (request) => {`,
        `  request.headers.set("X-API-Key", API_KEY);`,
        `  return request;`,
        `});`,
        ``,
        `const client = new Mistral({`,
        `  apiKey: API_KEY,`,
        `  serverURL: INVOKE_URL,`,
        `  httpClient,`,
        `});`,
        ``,
        typescript(target),
      ].join("\n"),
  },
  {
    id: "env",
    label: ".env",
    language: "env",
    install: "",
    code: (target) => variables(target, "authorization", { MISTRAL_API_KEY: target.apiKey }),
  },
];
