/** Nothing here yet: one sentence, one button, and the same by command line. */
import type { ReactNode } from "react";
import { messages } from "../messages";
import { CodeBlock } from "./code-block";

export function Empty({ sentence, action, command }: { sentence: string; action?: ReactNode; command?: string }) {
  return (
    <div className="empty">
      <p>{sentence}</p>
      {action}
      {command !== undefined && <CodeBlock code={command} language="shell" label={messages.empty.command} />}
    </div>
  );
}
