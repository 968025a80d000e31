/** OpenAI and what speaks like it; `version` is what the SDK's base URL appends to the Invoke URL. */
import type { Recipe } from "./text";
import { chatBody, curl, pythonChat, pythonConstants, typescriptChat, typescriptConstants, variables } from "./text";

export const openai = (version: string): Recipe[] => [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(`${target.invokeUrl}${version}/chat/completions`, [`X-API-Key: ${target.apiKey}`], chatBody(target), target),
  },
  {
    id: "python",
    label: "Python",
    language: "python",
    install: "pip install openai",
    code: (target) =>
      [
        `from openai import OpenAI`,
        ``,
        pythonConstants(`${target.invokeUrl}${version}`, target),
        ``,
        `client = OpenAI(`,
        `    api_key=API_KEY,`,
        `    base_url=INVOKE_URL,`,
        `    default_headers={"X-API-Key": API_KEY},`,
        `)`,
        ``,
        pythonChat(target, target.model),
      ].join("\n"),
  },
  {
    id: "typescript",
    label: "TypeScript",
    language: "typescript",
    install: "npm install openai",
    code: (target) =>
      [
        `import OpenAI from "openai";`,
        ``,
        typescriptConstants(`${target.invokeUrl}${version}`, target),
        ``,
        `const client = new OpenAI({`,
        `  apiKey: API_KEY,`,
        `  baseURL: INVOKE_URL,`,
        `  defaultHeaders: { "X-API-Key": API_KEY },`,
        `});`,
        ``,
        typescriptChat(target, target.model),
      ].join("\n"),
  },
  {
    id: "env",
    label: ".env",
    language: "env",
    install: "",
    code: (target) =>
      variables(target, "authorization", {
        OPENAI_BASE_URL: `${target.invokeUrl}${version}`,
        OPENAI_API_KEY: target.apiKey,
      }),
  },
];
