/** Taking something away while its own page is open: the page must not ask for it again before it is left. */
import { useIsMutating, useMutation, useQueryClient } from "@tanstack/react-query";

const REMOVAL = ["removal"];

/** Whether something is being taken away; queries of single things rest meanwhile. */
export const useLeaving = (): boolean => useIsMutating({ mutationKey: REMOVAL }) > 0;

/** Takes something away, goes elsewhere, and only then makes the lists fresh. */
export function useRemoval<T>(nouns: readonly string[], remove: (thing: T) => Promise<unknown>, leave: () => unknown) {
  const queries = useQueryClient();
  return useMutation({
    mutationKey: REMOVAL,
    mutationFn: remove,
    onSuccess: async () => {
      await leave();
      for (const noun of nouns) void queries.invalidateQueries({ queryKey: [noun] });
    },
  });
}
