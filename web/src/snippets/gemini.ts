/** Gemini: the SDK insists on a key of its own, so it gets a placeholder and the gateway's key travels in a header. */
import type { Recipe, Target } from "./text";
import { curl, pythonConstants, question, quote, typescriptConstants, variables } from "./text";

const python = (target: Target): string => {
  const request = [`    model=${quote(target.model)},`, `    contents=${quote(question(target))},`];
  if (!target.streaming) {
    return [`response = client.models.generate_content(`, ...request, `)`, ``, `print(response.text)`].join("\n");
  }
  return [
    `for chunk in client.models.generate_content_stream(`,
    ...request,
    `):`,
    `    if chunk.text:`,
    `        print(chunk.text, end="", flush=True)`,
  ].join("\n");
};

const typescript = (target: Target): string => {
  const request = [`  model: ${quote(target.model)},`, `  contents: ${quote(question(target))},`];
  if (!target.streaming) {
    return [
      `const response = await client.models.generateContent({`,
      ...request,
      `});`,
      ``,
      `console.log(response.text);`,
    ].join("\n");
  }
  return [
    `const stream = await client.models.generateContentStream({`,
    ...request,
    `});`,
    ``,
    `for await (const chunk of stream) {`,
    `  process.stdout.write(chunk.text ?? "");`,
    `}`,
  ].join("\n");
};

export const gemini: Recipe[] = [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(
        `${target.invokeUrl}/v1beta/models/${target.model}:${target.streaming ? "streamGenerateContent?alt=sse" : "generateContent"}`,
        [`X-API-Key: ${target.apiKey}`],
        { contents: [{ role: "user", parts: [{ text: question(target) }] }] },
        target,
      ),
  },
  {
    id: "python",
    label: "Python",
    language: "python",
    install: "pip install google-genai",
    code: (target) =>
      [
        `from google import genai`,
        `from google.genai import types as genai_types`,
        ``,
        pythonConstants(target.invokeUrl, target),
        ``,
        `http_options = genai_types.HttpOptions(`,
        `    base_url=INVOKE_URL,`,
        `    headers={"X-API-Key": API_KEY},`,
        `)`,
        ``,
        `client = genai.Client(api_key="placeholder", http_options=http_options)`,
        ``,
        python(target),
      ].join("\n"),
  },
  {
    id: "typescript",
    label: "TypeScript",
    language: "typescript",
    install: "npm install @google/genai",
    code: (target) =>
      [
        `import { GoogleGenAI } from "@google/genai";`,
        ``,
        typescriptConstants(target.invokeUrl, target),
        ``,
        `const client = new GoogleGenAI({`,
        `  apiKey: "placeholder",`,
        `  httpOptions: { baseUrl: INVOKE_URL, headers: { "X-API-Key": API_KEY } },`,
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
      variables(target, "x-goog-api-key", { GOOGLE_GEMINI_BASE_URL: target.invokeUrl, GEMINI_API_KEY: target.apiKey }),
  },
];
