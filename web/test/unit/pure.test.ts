/** What needs no browser: names, formats, problems, cache updates. */
import { describe, expect, it } from "vitest";
import { prepend } from "../../src/api/live";
import { isProblem, problemFrom } from "../../src/api/problem";
import { matches } from "../../src/api/requests";
import type { Endpoint, RequestRow } from "../../src/api/types";
import { changeOf, valuesOf } from "../../src/forms/connection";
import { statusOf } from "../../src/forms/endpoint-status";
import { freeName, isContext, isDuration, isName, isUrl, sameHost } from "../../src/forms/names";
import { placeProblem } from "../../src/forms/problems";
import { isOwnAddress, takeToken } from "../../src/pages/front/fragment";
import { buckets } from "../../src/pages/usage/buckets";
import { formatCost, formatDuration, formatRelative } from "../../src/ui/format";
import { initials } from "../../src/ui/mark";
import { tokens } from "../../src/ui/tokens";

const row = (id: string, at: string, over: Partial<RequestRow> = {}): RequestRow =>
  ({
    id,
    at,
    endpoint: "openai",
    key: "ci",
    outcome: "answered",
    status: 200,
    durationMs: 1,
    streamed: false,
    ...over,
  }) as RequestRow;

describe("names and addresses", () => {
  it("are judged as the server judges them", () => {
    expect(["ab", "a-1", "openai-prod"].every(isName)).toBe(true);
    expect(["a", "1a", "A", "a_b", "-a", "a".repeat(64)].some(isName)).toBe(false);
    expect(["/a", "/a/b/c/d", "/openai-prod"].every(isContext)).toBe(true);
    expect(["", "/", "a", "/a/b/c/d/e", "/a//b", "/a b"].some(isContext)).toBe(false);
    expect(["5s", "500ms", "10m"].every(isDuration)).toBe(true);
    expect(["5", "s", "-5s", "5 s"].some(isDuration)).toBe(false);
    expect(isUrl("https://x.example")).toBe(true);
    expect(isUrl("ftp://x.example") || isUrl("x.example")).toBe(false);
  });
  it("a taken name gets the next number", () => {
    expect(freeName("openai", new Set())).toBe("openai");
    expect(freeName("openai", new Set(["openai", "openai-2"]))).toBe("openai-3");
  });
  it("a credential stays with its host", () => {
    expect(sameHost("https://a.example/v1", "https://a.example")).toBe(true);
    expect(sameHost("https://a.example", "https://b.example")).toBe(false);
    expect(sameHost("nonsense", "nonsense")).toBe(false);
  });
});

describe("problems", () => {
  const answer = (status: number) => new Response("", { status, headers: { "x-request-id": "req_1" } });
  it("carry title, detail, code and request id", () => {
    const problem = problemFrom(
      { title: "Taken", detail: "openai exists", code: "name_taken", errors: [] },
      answer(409),
    );
    expect(problem).toMatchObject({ status: 409, title: "Taken", code: "name_taken", requestId: "req_1" });
    expect(isProblem(problem, 409)).toBe(true);
    expect(isProblem(problem, 412)).toBe(false);
  });
  it("are made of answers that are not problems, too", () => {
    expect(problemFrom("<html>", answer(502))).toMatchObject({ status: 502, code: "http_502", errors: [] });
  });
  it("go beside their fields, the deepest pointer included", () => {
    const placed: string[] = [];
    const put = (name: string) => placed.push(name);
    const problem = problemFrom(
      { errors: [{ pointer: "/upstream/credential/value", code: "invalid", message: "bad" }] },
      answer(422),
    );
    const fields = { "/upstream/credential": "credential" } as const;
    expect(placeProblem<{ credential: string }>(problem, fields, put)).toBe(true);
    expect(placed).toEqual(["credential"]);
  });
  it("are not swallowed when no field is theirs", () => {
    const problem = problemFrom({ errors: [{ pointer: "/other", code: "invalid", message: "bad" }] }, answer(422));
    expect(placeProblem<{ name: string }>(problem, { "/name": "name" }, () => undefined)).toBe(false);
  });
});

describe("live rows", () => {
  const list = { pages: [{ data: [row("a", "2026-01-01T00:00:00Z")], nextCursor: null }], pageParams: [undefined] };
  it("come on top, newest first, once", () => {
    const next = prepend(list, [
      row("b", "2026-01-01T00:00:01Z"),
      row("c", "2026-01-01T00:00:02Z"),
      row("a", "2026-01-01T00:00:00Z"),
    ]);
    expect(next.pages[0]?.data.map((each) => each.id)).toEqual(["c", "b", "a"]);
    expect(prepend(next, [row("b", "2026-01-01T00:00:01Z")])).toBe(next);
  });
  it("respect the filter", () => {
    expect(matches(row("a", ""), {})).toBe(true);
    expect(matches(row("a", ""), { endpoint: "openai", key: "ci" })).toBe(true);
    expect(matches(row("a", ""), { outcome: "refused" })).toBe(false);
  });
});

describe("an endpoint's badge", () => {
  const deployment = (status: "deployed" | "rejected" | "deploying") => ({
    id: "d",
    gateway: "default",
    version: 3,
    status,
  });
  it("says the most pressing thing", () => {
    const of = (deployments: ReturnType<typeof deployment>[], pendingChanges = false, disabled = false) =>
      statusOf({ deployments, pendingChanges, disabled }).text;
    expect(of([])).toBe("Not deployed");
    expect(of([deployment("deployed")])).toBe("Live v3");
    expect(of([deployment("deployed")], true)).toBe("Changes not deployed");
    expect(of([deployment("deployed"), deployment("rejected")])).toBe("Rejected");
    expect(of([deployment("deployed")], false, true)).toBe("Disabled");
  });
});

describe("formats", () => {
  it("say spans of time as people do", () => {
    expect(formatDuration(840.4)).toBe("840 ms");
    expect(formatDuration(1_240)).toBe("1.24 s");
    expect(formatDuration(12_400)).toBe("12.4 s");
    expect(formatDuration(180_000)).toBe("3 min");
  });
  it("say distances in time in the largest fitting unit", () => {
    const now = Date.parse("2026-01-10T00:00:00Z");
    expect(formatRelative("2026-01-07T00:00:00Z", now)).toBe("3 days ago");
    expect(formatRelative("2026-01-09T23:58:00Z", now)).toBe("2 minutes ago");
  });
  it("tell a small cost from none", () => {
    expect([0, 42_000, 1_234_000_000].map(formatCost)).toEqual(["$0.00", "$0.000042", "$1.23"]);
  });
  it("make marks of names", () => {
    expect(["Azure OpenAI", "Anthropic", "OpenAI-compatible", ""].map(initials)).toEqual(["AO", "An", "Oc", ""]);
  });
  it("fill the silent moments of a range", () => {
    const figures = { requests: 5, refused: 1, errors: 1, inputTokens: 40, outputTokens: 2, costNanos: 1_500_000 };
    const answer = {
      from: "2026-01-01T00:30:00Z",
      to: "2026-01-01T03:10:00Z",
      data: [{ start: "2026-01-01T02:00:00Z", ...figures }],
    };
    const bars = buckets(answer, "hour");
    expect(buckets(answer, "hour", "tokens").map((bar) => bar.total)).toEqual([0, 0, 42, 0]);
    const costs = buckets(answer, "hour", "cost");
    expect(costs[2]?.total).toBe(1_500_000);
    expect(costs[2]?.label).toMatch(/0\.0015/);
    expect(bars.map((bar) => [bar.total, bar.bad])).toEqual([
      [0, 0],
      [0, 0],
      [5, 2],
      [0, 0],
    ]);
  });
});

describe("code colouring", () => {
  it("loses no character", () => {
    const code = `from x import y # "not" a string\nz = "a \\" b" + 'c'\nif url == "http://a/#b": pass`;
    expect(
      tokens(code, "python")
        .map((part) => part.text)
        .join(""),
    ).toBe(code);
  });
  it("knows strings, comments and keywords apart", () => {
    const kinds = tokens(`import a\nb = "import" # c`, "python").filter((part) => part.kind !== "plain");
    expect(kinds.map((part) => part.kind)).toEqual(["keyword", "string", "comment"]);
  });
});

describe("signing in by link", () => {
  it("takes the token out of the address", () => {
    window.location.hash = "#token=abc";
    expect(takeToken()).toBe("abc");
    expect(window.location.hash).toBe("");
    expect(takeToken()).toBeUndefined();
  });
  it("goes on to addresses of our own only", () => {
    expect(isOwnAddress("/usage?range=7d")).toBe(true);
    for (const foreign of ["//evil.example", "/\\evil.example", "https://evil.example", undefined]) {
      expect(isOwnAddress(foreign)).toBe(false);
    }
  });
});

describe("saving a proxy", () => {
  const proxy = (over: object): Endpoint =>
    ({ kind: "proxy", context: "/p", timeouts: { connect: "5s", firstByte: "10m", idle: "5m" }, ...over }) as Endpoint;

  it("keeps several providers, their shares, and the deadline of the whole", () => {
    const read = proxy({
      targets: [
        { provider: "a", weight: 3, priority: 0 },
        { provider: "b", weight: 1, priority: 1 },
      ],
      timeouts: { connect: "5s", firstByte: "10m", idle: "5m", total: "2m" },
    });
    const change = changeOf(read, { ...valuesOf(read), description: "new" });
    expect(change).not.toHaveProperty("targets");
    expect(change).not.toHaveProperty("provider");
    expect(change).toMatchObject({ description: "new", timeouts: { total: "2m" } });
  });

  it("changes the one provider", () => {
    const read = proxy({ targets: [{ provider: "a", weight: 1, priority: 0 }] });
    const change = changeOf(read, { ...valuesOf(read), provider: "b" });
    expect(change).toMatchObject({ provider: "b", targets: [] });
    expect(change.timeouts).not.toHaveProperty("total");
  });
});
