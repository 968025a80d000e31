/** Vendor templates: how each vendor's API is spoken. */
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";

export const templatesQuery = queryOptions({
  queryKey: ["templates"],
  queryFn: async ({ signal }) => {
    const page = await unwrap(client.GET("/api/v1/templates", { signal }));
    return page.data;
  },
  staleTime: 300_000,
});
