/** Starts the console: the query cache, the router, and the providers around them. */
import { CSPProvider } from "@base-ui/react/csp-provider";
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Problem, isProblem } from "./api/problem";
import { sessionQuery } from "./api/session";
import { createConsoleRouter } from "./routes";
import "./ui/css/index.css";
import { applyTheme, storedTheme } from "./ui/theme";

applyTheme(storedTheme());

/** A session that ended elsewhere is noticed at the next refusal. */
const signedOut = (error: unknown) => {
  if (!isProblem(error, 401) || queries.getQueryData(sessionQuery.queryKey) == null) return;
  queries.setQueryData(sessionQuery.queryKey, null);
  void router.invalidate();
};

const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError: signedOut }),
  mutationCache: new MutationCache({ onError: signedOut }),
  defaultOptions: {
    queries: {
      // Live events make things fresh; asking again on every focus would only add noise.
      staleTime: 30_000,
      refetchOnWindowFocus: false,
      retry: (count, error) => count < 2 && error instanceof Problem && (error.status === 0 || error.status === 503),
    },
    mutations: { retry: false },
  },
});

const router = createConsoleRouter(queries);

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no root element");
createRoot(root).render(
  <StrictMode>
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </CSPProvider>
  </StrictMode>,
);
