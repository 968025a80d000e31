/** Vendor templates: how each vendor's API is spoken. */
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";
import type { Page, Template } from "./types";

export const templatesQuery = queryOptions({
  queryKey: ["templates"],
  queryFn: async ({ signal }) => {
    const page = await unwrap<Page<Template>>(
      client.GET("/api/v1/templates", { params: { query: { limit: 100 } }, signal }),
    );
    return page.data;
  },
  staleTime: 300_000,
});
