/** Who is signed in, and the ways in and out. */
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";
import { isProblem } from "./problem";
import type { Session } from "./types";

/** The session, or null when nobody is signed in. */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async ({ signal }): Promise<Session | null> => {
    try {
      return await unwrap(client.GET("/api/v1/session", { signal }));
    } catch (error) {
      if (isProblem(error, 401)) return null;
      throw error;
    }
  },
  staleTime: 60_000,
});

/** Whether this installation still waits for its first owner. */
export const bootstrapQuery = queryOptions({
  queryKey: ["bootstrap"],
  queryFn: ({ signal }) => unwrap(client.GET("/api/v1/bootstrap", { signal })),
  staleTime: 0,
});

export const signIn = (email: string, password: string): Promise<Session> =>
  unwrap(client.POST("/api/v1/session", { body: { email, password } }));

const redeemed = new Map<string, Promise<Session>>();

/** Spends a one-time sign-in token. Asking twice with one token asks the server once. */
export function redeem(oneTimeToken: string): Promise<Session> {
  const known = redeemed.get(oneTimeToken);
  if (known !== undefined) return known;
  const answer = unwrap(client.POST("/api/v1/session", { body: { oneTimeToken } }));
  redeemed.set(oneTimeToken, answer);
  return answer;
}

export const signOut = (): Promise<unknown> => unwrap(client.DELETE("/api/v1/session", {}));

export interface FirstOwner {
  token: string;
  email: string;
  password: string;
  displayName: string;
}

export const claim = ({ token, email, password, displayName }: FirstOwner): Promise<Session> =>
  unwrap(
    client.POST("/api/v1/bootstrap", {
      body: { token, email, password, ...(displayName === "" ? {} : { displayName }) },
    }),
  );
