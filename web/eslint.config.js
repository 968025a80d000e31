/**
 * What the console's code may do. Beside the usual checks: who may import whom (ui and api know nothing of each other,
 * forms and pages use both, a page never imports a page), and no words outside the messages file.
 */
import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

const upward = {
  api: ["**/ui/**", "**/forms/**", "**/pages/**", "**/routes", "**/snippets", "**/snippets/**"],
  ui: ["**/api/**", "**/forms/**", "**/pages/**", "**/routes", "**/snippets", "**/snippets/**"],
  forms: ["**/pages/**", "**/routes"],
  snippets: ["**/api/**", "**/ui/**", "**/forms/**", "**/pages/**", "**/routes", "**/messages", "react"],
};

const direction = (room) => ({
  files: [`src/${room}/**/*.{ts,tsx}`, `src/${room}.ts`],
  rules: {
    "no-restricted-imports": [
      "error",
      { patterns: [{ group: upward[room], message: `${room} must not reach up: see the import rules.` }] },
    ],
  },
});

const words = [
  { selector: "JSXText[value=/[A-Za-z]/]", message: "Words belong in src/messages.ts." },
  {
    selector: "JSXAttribute[name.name=/^(aria-label|title|placeholder|alt|label)$/] > Literal[value=/[A-Za-z]/]",
    message: "Words belong in src/messages.ts.",
  },
  {
    selector: "JSXAttribute[name.name='style']",
    message: "No inline styles: the content security policy and the design tokens.",
  },
  { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Never." },
];

export default tseslint.config(
  { ignores: ["dist", "src/api/schema.generated.ts"] },
  ...tseslint.configs.strict,
  reactHooks.configs.flat.recommended,
  {
    files: ["src/**/*.{ts,tsx}"],
    rules: {
      "no-restricted-syntax": ["error", ...words],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true, varsIgnorePattern: "^_" }],
      "no-console": "error",
      "max-lines": ["error", { max: 400, skipBlankLines: false, skipComments: false }],
    },
  },
  { files: ["src/messages.ts"], rules: { "max-lines": ["error", { max: 600 }] } },
  direction("api"),
  direction("ui"),
  direction("forms"),
  direction("snippets"),
  {
    files: ["src/pages/**/*.{ts,tsx}"],
    rules: {
      "no-restricted-imports": [
        "error",
        {
          patterns: [
            { regex: "^\\.\\./(?!\\.\\./)", message: "A page never imports a page." },
            { group: ["**/pages/**", "**/routes"], message: "A page never imports a page." },
          ],
        },
      ],
    },
  },
);
