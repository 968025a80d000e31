/** A tile of one or two letters in place of a vendor's logo, which is not ours to use. */
export function Mark({ name, small }: { name: string; small?: boolean }) {
  return (
    <span className={`mark${small ? " mark-small" : ""}`} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

/** `Azure OpenAI` becomes `AO`, `Anthropic` becomes `An`. */
export function initials(name: string): string {
  const words = name.split(/[\s-]+/).filter((word) => word !== "");
  const [first, second] = words;
  if (first === undefined) return "";
  return second === undefined ? first.slice(0, 2) : `${first.charAt(0)}${second.charAt(0)}`;
}
