/** Buttons. One that cannot be pressed says why, to the eye and to the screen reader, and stays in the tab order. */
import type { ComponentProps, ReactNode } from "react";
import { useId, useState } from "react";

export interface ButtonProps extends Omit<ComponentProps<"button">, "disabled"> {
  variant?: "secondary" | "primary" | "danger" | "quiet";
  size?: "normal" | "small";
  /** Why it cannot be pressed now; undefined when it can. */
  reason?: string | undefined;
  /** An icon alone; the name then comes from `aria-label`. */
  iconOnly?: boolean;
  children: ReactNode;
}

/** The class names of a button, for links that look like one. */
export function buttonClass(
  variant: ButtonProps["variant"] = "secondary",
  size: ButtonProps["size"] = "normal",
): string {
  return `button button-${variant}${size === "small" ? " button-small" : ""}`;
}

export function Button({ variant, size, reason, iconOnly, onClick, children, className, ...rest }: ButtonProps) {
  const hint = useId();
  const [dismissed, setDismissed] = useState(false);
  const names = `${buttonClass(variant, size)}${iconOnly ? " button-icon" : ""}${className ? ` ${className}` : ""}`;
  if (reason === undefined) {
    return (
      <button type="button" className={names} onClick={onClick} {...rest}>
        {children}
      </button>
    );
  }
  return (
    <span
      className="hint-anchor"
      data-dismissed={dismissed || undefined}
      onKeyDown={(event) => {
        if (event.key === "Escape") setDismissed(true);
      }}
      onBlur={() => {
        setDismissed(false);
      }}
    >
      <button
        {...rest}
        type="button"
        className={names}
        aria-disabled="true"
        aria-describedby={hint}
        onClick={(event) => {
          event.preventDefault();
        }}
      >
        {children}
      </button>
      <span role="tooltip" id={hint} className="hint">
        {reason}
      </span>
    </span>
  );
}
