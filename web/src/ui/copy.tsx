/** Copying, where the clipboard is granted and where it is not. */
import { Check, Copy } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { messages } from "../messages";
import { Button } from "./button";
import type { ButtonProps } from "./button";

/** Puts text on the clipboard; false when the browser does not let us. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

interface CopyButtonProps extends Omit<ButtonProps, "children" | "onClick"> {
  text: string;
  label?: string;
  onCopied?: () => void;
}

export function CopyButton({ text, label = messages.copy.copy, onCopied, iconOnly, ...rest }: CopyButtonProps) {
  const [said, setSaid] = useState<"" | "copied" | "failed">("");
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
    },
    [],
  );
  const copy = async () => {
    const copied = await copyText(text);
    setSaid(copied ? "copied" : "failed");
    if (copied) onCopied?.();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setSaid("");
    }, 2_000);
  };
  const shown = said === "" ? label : messages.copy[said];
  return (
    <>
      <Button
        {...rest}
        {...(iconOnly ? { iconOnly, "aria-label": shown } : {})}
        onClick={() => {
          void copy();
        }}
      >
        {said === "copied" ? <Check size={15} aria-hidden="true" /> : <Copy size={15} aria-hidden="true" />}
        {!iconOnly && shown}
      </Button>
      <span className="visually-hidden" role="status">
        {said === "" ? "" : messages.copy[said]}
      </span>
    </>
  );
}

/** A value to take away: selected when focused, with its copy button. */
export function Copyable({ value, label, onCopied }: { value: string; label: string; onCopied?: () => void }) {
  return (
    <div className="copyable">
      <input
        readOnly
        value={value}
        aria-label={label}
        spellCheck={false}
        onFocus={(event) => {
          event.currentTarget.select();
        }}
        {...(onCopied ? { onCopy: onCopied } : {})}
      />
      <CopyButton text={value} {...(onCopied ? { onCopied } : {})} />
    </div>
  );
}
