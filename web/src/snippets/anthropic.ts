/** Anthropic: the SDK's own key parameter is where the gateway looks. */
import type { Recipe, Target } from "./text";
import { curl, pythonConstants, question, quote, typescriptConstants, variables } from "./text";

const python = (target: Target): string => {
  const request = [
    `    model=${quote(target.model)},`,
    `    max_tokens=1024,`,
    `    messages=[{"role": "user", "content": ${quote(question(target))}}],`,
  ];
  if (!target.streaming) {
    return [`response = client.messages.create(`, ...request, `)`, ``, `print(response.content[0].text)`].join("\n");
  }
  return [
    `with client.messages.stream(`,
    ...request,
    `) as stream:`,
    `    for text in stream.text_stream:`,
    `        print(text, end="", flush=True)`,
  ].join("\n");
};

const typescript = (target: Target): string => {
  const request = [
    `  model: ${quote(target.model)},`,
    `  max_tokens: 1024,`,
    `  messages: [{ role: "user", content: ${quote(question(target))} }],`,
  ];
  if (!target.streaming) {
    return [
      `const response = await client.messages.create({`,
      ...request,
      `});`,
      ``,
      `console.log(response.content);`,
    ].join("\n");
  }
  return [
    `const stream = client.messages.stream({`,
    ...request,
    `});`,
    ``,
    `stream.on("text", (text) => process.stdout.write(text));`,
    `await stream.finalMessage();`,
  ].join("\n");
};

export const anthropic: Recipe[] = [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(
        `${target.invokeUrl}/v1/messages`,
        [`X-API-Key: ${target.apiKey}`, `anthropic-version: 2023-06-01`],
        {
          model: target.model,
          max_tokens: 1024,
          messages: [{ role: "user", content: question(target) }],
          ...(target.streaming ? { stream: true } : {}),
        },
        target,
      ),
  },
  {
    id: "python",
    label: "Python",
    language: "python",
    install: "pip install anthropic",
    code: (target) =>
      [
        `import anthropic`,
        ``,
        pythonConstants(target.invokeUrl, target),
        ``,
        `client = anthropic.Anthropic(`,
        `    api_key=API_KEY,`,
        `    base_url=INVOKE_URL,`,
        `)`,
        ``,
        python(target),
      ].join("\n"),
  },
  {
    id: "typescript",
    label: "TypeScript",
    language: "typescript",
    install: "npm install @anthropic-ai/sdk",
    code: (target) =>
      [
        `import Anthropic from "@anthropic-ai/sdk";`,
        ``,
        typescriptConstants(target.invokeUrl, target),
        ``,
        `const client = new Anthropic({`,
        `  apiKey: API_KEY,`,
        `  baseURL: INVOKE_URL,`,
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
    code: (target) =>
      variables(target, "x-api-key", { ANTHROPIC_BASE_URL: target.invokeUrl, ANTHROPIC_API_KEY: target.apiKey }),
  },
];
