/** Names and contexts as the server takes them, checked early so that one need not wait for a refusal. */

const NAME = /^[a-z][a-z0-9-]{1,62}$/;
const DURATION = /^\d+(ms|s|m|h)$/;

export const isName = (value: string): boolean => NAME.test(value);
export const isContext = (value: string): boolean => /^(\/[A-Za-z0-9._~-]+){1,4}$/.test(value);
export const isDuration = (value: string): boolean => DURATION.test(value);

/** Whether this is an address a provider can be reached at. */
export function isUrl(value: string): boolean {
  try {
    return ["http:", "https:"].includes(new URL(value).protocol);
  } catch {
    return false;
  }
}

/** The first of `base`, `base-2`, `base-3` and so on that is not taken. */
export function freeName(base: string, taken: ReadonlySet<string>): string {
  if (!taken.has(base)) return base;
  let number = 2;
  while (taken.has(`${base}-${String(number)}`)) number += 1;
  return `${base}-${String(number)}`;
}

/** Whether two addresses name the same host, so that a stored credential may still go there. */
export function sameHost(one: string, other: string): boolean {
  try {
    return new URL(one).host === new URL(other).host;
  } catch {
    return false;
  }
}
