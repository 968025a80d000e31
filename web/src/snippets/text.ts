/** The pieces every vendor's snippets are made of. */

export type Language = "shell" | "python" | "typescript" | "env";

/** Where a snippet points, and with which key and model. */
export interface Target {
  /** The Invoke URL, without a trailing slash. */
  invokeUrl: string;
  apiKey: string;
  model: string;
  streaming: boolean;
  /** The headers the endpoint reads keys from, in lower case. */
  keyHeaders: readonly string[];
}

export interface Recipe {
  id: string;
  label: string;
  language: Language;
  install: string;
  code: (target: Target) => string;
}

/** A string literal that Python, TypeScript and JSON all read the same. */
export const quote = (value: string): string => JSON.stringify(value);

/** A word that a POSIX shell takes as it stands. */
export const shellQuote = (value: string): string => `'${value.replaceAll("'", `'\\''`)}'`;

export const question = ({ streaming }: Target): string =>
  streaming ? "Count from 1 to 5." : "What is an AI gateway?";

/** A curl command that posts JSON. */
export function curl(url: string, headers: readonly string[], body: unknown, { streaming }: Target): string {
  const lines = [
    `curl ${streaming ? "-N " : ""}${shellQuote(url)}`,
    ...headers.map((header) => `  -H ${shellQuote(header)}`),
    `  -H 'Content-Type: application/json'`,
    `  -d ${shellQuote(JSON.stringify(body))}`,
  ];
  return lines.join(" \\\n");
}

/**
 * The variables that name the endpoint, followed by those the vendor's SDK reads by itself: only where the endpoint
 * reads keys from `header`, which is where that SDK puts its own.
 */
export function variables(target: Target, header: string, own: Record<string, string>): string {
  const { invokeUrl, apiKey, keyHeaders } = target;
  const all = { LOCKGATE_INVOKE_URL: invokeUrl, LOCKGATE_API_KEY: apiKey, ...(keyHeaders.includes(header) ? own : {}) };
  return Object.entries(all)
    .map(([name, value]) => `${name}=${value}`)
    .join("\n");
}

/** The two constants that the guide's Python examples begin with. */
export const pythonConstants = (url: string, { apiKey }: Target): string =>
  `INVOKE_URL = ${quote(url)}\nAPI_KEY = ${quote(apiKey)}`;

export const typescriptConstants = (url: string, { apiKey }: Target): string =>
  `const INVOKE_URL = ${quote(url)};\nconst API_KEY = ${quote(apiKey)};`;

/** Chat in OpenAI's shape, in Python: the call and what prints its answer. */
export function pythonChat(target: Target, model: string): string {
  const call = [
    `client.chat.completions.create(`,
    `    model=${quote(model)},`,
    `    messages=[{"role": "user", "content": ${quote(question(target))}}],`,
  ];
  if (!target.streaming) {
    return [`response = ${call.join("\n")}`, `)`, ``, `print(response.choices[0].message.content)`].join("\n");
  }
  return [
    `stream = ${call.join("\n")}`,
    `    stream=True,`,
    `)`,
    ``,
    `for chunk in stream:`,
    `    delta = chunk.choices[0].delta.content if chunk.choices else None`,
    `    if delta:`,
    `        print(delta, end="", flush=True)`,
  ].join("\n");
}

/** The same in TypeScript. */
export function typescriptChat(target: Target, model: string): string {
  const call = [
    `await client.chat.completions.create({`,
    `  model: ${quote(model)},`,
    `  messages: [{ role: "user", content: ${quote(question(target))} }],`,
  ];
  if (!target.streaming) {
    return [`const response = ${call.join("\n")}`, `});`, ``, `console.log(response.choices[0].message.content);`].join(
      "\n",
    );
  }
  return [
    `const stream = ${call.join("\n")}`,
    `  stream: true,`,
    `});`,
    ``,
    `for await (const chunk of stream) {`,
    `  process.stdout.write(chunk.choices[0]?.delta.content ?? "");`,
    `}`,
  ].join("\n");
}

/** A chat body in OpenAI's shape. */
export const chatBody = (target: Target) => ({
  model: target.model,
  messages: [{ role: "user", content: question(target) }],
  ...(target.streaming ? { stream: true } : {}),
});
