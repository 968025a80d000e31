/** What to do when no node has ever come: how to start one. */
import { messages } from "../../messages";
import { CodeBlock } from "../../ui/code-block";
import { Notice } from "../../ui/notice";

const m = messages.gateways;

const COMMAND = `LOCKGATE_LINK__ADDRESS=control-plane.example:9443 \\
LOCKGATE_LINK__TOKEN_FILE=./gateway-token \\
lockgate data-plane`;

export function NeverConnected({ gateway }: { gateway: string }) {
  return (
    <Notice title={m.never}>
      <p>{m.neverText(gateway)}</p>
      <CodeBlock label={m.install} language="shell" code={COMMAND} />
    </Notice>
  );
}
