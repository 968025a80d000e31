/** Cuts code into strings, comments, keywords and the rest. Enough for short examples; not a parser. */

export interface Token {
  kind: "plain" | "string" | "comment" | "keyword";
  text: string;
}

const KEYWORDS: Record<string, string> = {
  python: "from|import|as|def|with|for|in|if|else|None|True|False|return",
  typescript: "import|from|const|new|await|for|of|true|false|return",
  shell: "curl|export",
  json: "true|false|null",
};

const COMMENT: Record<string, string> = {
  python: "#[^\\n]*",
  shell: "#[^\\n]*",
  env: "#[^\\n]*",
  typescript: "//[^\\n]*",
};

/** The parts of a text, in order; joined they are the text. */
export function tokens(code: string, language: string): Token[] {
  const keywords = KEYWORDS[language];
  const comment = COMMENT[language];
  const alternatives = [
    `(?<string>"(?:\\\\.|[^"\\\\\\n])*"|'[^']*')`,
    ...(comment === undefined ? [] : [`(?<comment>(?<=^|\\s)${comment})`]),
    ...(keywords === undefined ? [] : [`(?<keyword>\\b(?:${keywords})\\b)`]),
  ];
  const pattern = new RegExp(alternatives.join("|"), "gm");
  const parts: Token[] = [];
  let end = 0;
  for (const match of code.matchAll(pattern)) {
    if (match.index > end) parts.push({ kind: "plain", text: code.slice(end, match.index) });
    const groups = match.groups ?? {};
    const kind = groups.comment !== undefined ? "comment" : groups.keyword !== undefined ? "keyword" : "string";
    parts.push({ kind, text: match[0] });
    end = match.index + match[0].length;
  }
  if (end < code.length) parts.push({ kind: "plain", text: code.slice(end) });
  return parts;
}
