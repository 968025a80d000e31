/** Azure OpenAI: the model is the name of a deployment. */
import type { Recipe } from "./text";
import { curl, pythonChat, pythonConstants, question, typescriptChat, typescriptConstants, variables } from "./text";

const API_VERSION = "2024-06-01";

export const azureOpenai: Recipe[] = [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(
        `${target.invokeUrl}/openai/deployments/${target.model}/chat/completions?api-version=${API_VERSION}`,
        [`X-API-Key: ${target.apiKey}`],
        {
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
    install: "pip install openai",
    code: (target) =>
      [
        `from openai import AzureOpenAI`,
        ``,
        pythonConstants(target.invokeUrl, target),
        ``,
        `client = AzureOpenAI(`,
        `    api_key=API_KEY,`,
        `    azure_endpoint=INVOKE_URL,`,
        `    api_version="${API_VERSION}",`,
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
        `import { AzureOpenAI } from "openai";`,
        ``,
        typescriptConstants(target.invokeUrl, target),
        ``,
        `const client = new AzureOpenAI({`,
        `  apiKey: API_KEY,`,
        `  endpoint: INVOKE_URL,`,
        `  apiVersion: "${API_VERSION}",`,
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
      variables(target, "api-key", {
        AZURE_OPENAI_ENDPOINT: target.invokeUrl,
        AZURE_OPENAI_API_KEY: target.apiKey,
        OPENAI_API_VERSION: API_VERSION,
      }),
  },
];
