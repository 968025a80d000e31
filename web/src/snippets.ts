/**
 * Code to paste: how each vendor's own SDK is pointed at an Invoke URL. Pure text, nothing else. The shapes are the ones
 * the guide promises; a test holds them to it.
 */
import { anthropic } from "./snippets/anthropic";
import { azureOpenai } from "./snippets/azure-openai";
import { bedrock } from "./snippets/bedrock";
import { gemini } from "./snippets/gemini";
import { mistral } from "./snippets/mistral";
import { openai } from "./snippets/openai";
import type { Language, Recipe, Target } from "./snippets/text";

export type { Language, Target } from "./snippets/text";

/** One tab of code. */
export interface Snippet {
  id: string;
  label: string;
  language: Language;
  /** What must be installed first, as a shell command; empty when nothing must. */
  install: string;
  code: string;
}

const recipes: Record<string, Recipe[]> = {
  openai: openai("/v1"),
  "openai-compatible": openai("/v1"),
  "azure-ai-foundry": openai("/openai/v1"),
  "azure-openai": azureOpenai,
  anthropic,
  gemini,
  mistral,
  "aws-bedrock": bedrock,
  bedrock,
};

/** What stands where a key belongs while there is none. */
export const KEY_PLACEHOLDER = "<your-gateway-api-key>";

/** The snippets of a template, curl first; a custom template is spoken as its dialect. */
export function snippetsOf(template: string, dialect: string, target: Target): Snippet[] {
  const known = recipes[template] ?? recipes[dialect] ?? openai("/v1");
  return known.map(({ id, label, language, install, code }) => ({ id, label, language, install, code: code(target) }));
}

/** The contents of a `.env` file for a template. */
export function envFile(template: string, dialect: string, target: Target): string {
  const env = snippetsOf(template, dialect, target).find((snippet) => snippet.id === "env");
  return env === undefined ? "" : `${env.code}\n`;
}
