/** Amazon Bedrock, spoken with a Bedrock API key as a bearer token. */
import type { Recipe, Target } from "./text";
import { curl, pythonConstants, question, quote, variables } from "./text";

const python = (target: Target): string => {
  const request = [
    `    modelId=${quote(target.model)},`,
    `    messages=[{"role": "user", "content": [{"text": ${quote(question(target))}}]}],`,
  ];
  if (!target.streaming) {
    return [
      `response = client.converse(`,
      ...request,
      `)`,
      ``,
      `print(response["output"]["message"]["content"][0]["text"])`,
    ].join("\n");
  }
  return [
    `response = client.converse_stream(`,
    ...request,
    `)`,
    ``,
    `for event in response["stream"]:`,
    `    delta = event.get("contentBlockDelta", {}).get("delta", {})`,
    `    print(delta.get("text", ""), end="", flush=True)`,
  ].join("\n");
};

export const bedrock: Recipe[] = [
  {
    id: "curl",
    label: "curl",
    language: "shell",
    install: "",
    code: (target) =>
      curl(
        `${target.invokeUrl}/model/${encodeURIComponent(target.model)}/${target.streaming ? "converse-stream" : "converse"}`,
        [`X-API-Key: ${target.apiKey}`],
        { messages: [{ role: "user", content: [{ text: question(target) }] }] },
        target,
      ),
  },
  {
    id: "python",
    label: "Python",
    language: "python",
    install: "pip install boto3",
    code: (target) =>
      [
        `import os`,
        ``,
        `import boto3`,
        ``,
        pythonConstants(target.invokeUrl, target),
        ``,
        `os.environ["AWS_BEARER_TOKEN_BEDROCK"] = API_KEY`,
        `client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=INVOKE_URL)`,
        ``,
        python(target),
      ].join("\n"),
  },
  {
    id: "env",
    label: ".env",
    language: "env",
    install: "",
    code: (target) =>
      variables(target, "authorization", {
        AWS_ENDPOINT_URL_BEDROCK_RUNTIME: target.invokeUrl,
        AWS_BEARER_TOKEN_BEDROCK: target.apiKey,
      }),
  },
];
