/* Replaced by "npm run types" once control-plane/openapi.json exists. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type paths = any;
