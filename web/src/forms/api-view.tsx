/** The same object through the API: how it is read and changed without the console. */
import type { Resource } from "../api/types";
import { messages } from "../messages";
import { CodeBlock } from "../ui/code-block";

const m = messages.api;

interface ApiViewProps {
  resource: Resource;
  /** The collection, such as `llm-providers`. */
  collection: string;
  /** How the object is named in the address. */
  handle: string;
  /** Whether PUT takes it. */
  changeable?: boolean;
  /** Whether it can be deployed. */
  deployable?: boolean;
}

const AUTH = `  -H "Authorization: Bearer $LOCKGATE_TOKEN"`;
const JSON_TYPE = `  -H 'Content-Type: application/json'`;
const command = (...lines: string[]) => lines.join(" \\\n");

export function ApiView({ resource, collection, handle, changeable = true, deployable = false }: ApiViewProps) {
  const origin = globalThis.location.origin;
  const address = `${origin}/api/v1/${collection}/${handle}`;
  const { kind: _kind, ...body } = resource as Resource & { kind?: string };
  return (
    <div className="stack">
      <p className="muted">{m.lead}</p>
      <CodeBlock label={m.read} language="shell" code={command(`curl '${address}'`, AUTH)} />
      {changeable && (
        <CodeBlock
          label={`${m.change} · ${m.changeLead}`}
          language="shell"
          code={command(
            `curl -X PUT '${address}'`,
            AUTH,
            `  -H 'If-Match: "${String(resource.revision)}"'`,
            JSON_TYPE,
            `  --data @${handle}.json`,
          )}
        />
      )}
      {deployable && (
        <CodeBlock
          label={m.deploy}
          language="shell"
          code={command(
            `curl -X POST '${origin}/api/v1/deployments?wait=5s'`,
            AUTH,
            JSON_TYPE,
            `  -d '{"endpoint": "${handle}", "gateway": "default"}'`,
          )}
        />
      )}
      <CodeBlock label={m.body} language="json" code={JSON.stringify(body, null, 2)} />
    </div>
  );
}
