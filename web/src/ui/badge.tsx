/** A word with a colour; the colour never says anything the word does not. */
import type { ReactNode } from "react";

export type Tone = "neutral" | "success" | "warning" | "danger" | "accent";

export function Badge({ tone = "neutral", busy, plain, children }: BadgeProps) {
  return (
    <span className={`badge badge-${tone}${busy ? " badge-busy" : ""}${plain ? " badge-plain" : ""}`}>{children}</span>
  );
}

interface BadgeProps {
  tone?: Tone;
  busy?: boolean;
  plain?: boolean;
  children: ReactNode;
}
