/** The signed-in member, for whatever is on screen. */
import { useQuery } from "@tanstack/react-query";
import { sessionQuery } from "../api/session";
import type { Permission, Session } from "../api/types";
import { messages } from "../messages";

export function useSession(): Session | null {
  return useQuery(sessionQuery).data ?? null;
}

/** Why the member may not do something; undefined when they may. */
export function useDenied(permission: Permission): string | undefined {
  const session = useSession();
  if (session === null || session.permissions.includes(permission)) return undefined;
  return messages.noPermission(permission, session.user.role);
}
