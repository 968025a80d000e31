/** Code to read and copy, lightly coloured. */
import { useMemo } from "react";
import { CopyButton } from "./copy";
import { tokens } from "./tokens";

interface CodeBlockProps {
  code: string;
  language?: string;
  /** What it is, for the head line and for screen readers. */
  label: string;
  onCopied?: () => void;
}

export function CodeBlock({ code, language = "text", label, onCopied }: CodeBlockProps) {
  const parts = useMemo(() => tokens(code, language), [code, language]);
  return (
    <div className="code">
      <div className="code-head">
        <span>{label}</span>
        <CopyButton text={code} size="small" variant="quiet" {...(onCopied ? { onCopied } : {})} />
      </div>
      <pre tabIndex={0} role="region" aria-label={label}>
        <code>
          {parts.map((part, index) =>
            part.kind === "plain" ? (
              part.text
            ) : (
              <span key={index} className={`tok-${part.kind}`}>
                {part.text}
              </span>
            ),
          )}
        </code>
      </pre>
    </div>
  );
}
