// Reads, writes and watches with openapi-fetch and the types that openapi-typescript makes from the
// description: a path, a parameter or a member that is not described does not compile.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./holm.js";

type Configuration = components["schemas"]["Configuration"];

const client = createClient<paths>({
  baseUrl: process.env.HOLM_URL!,
  headers: { Authorization: `Bearer ${process.env.HOLM_TOKEN}` },
});
const key = { path: { service: "made-ts", environment: "dev", key: "color" } };
const document = { path: { service: "made-ts", environment: "dev" } };

const written = await client.PUT("/config/{service}/{environment}/{key}", {
  params: key,
  body: "blue",
});
assert.equal(written.response.status, 201);
const session = written.response.headers.get("Holm-Session")!;
const read = await client.GET("/config/{service}/{environment}/{key}", {
  params: { ...key, header: { "Holm-Session": session } },
});
assert.equal(read.data?.value, "blue");
const several = await client.POST("/config/{service}/{environment}", {
  params: { path: { service: "made-ts-too", environment: "dev" } },
  body: { entries: { a: 1, b: { c: [true] } } },
});
assert.equal(several.response.status, 201);
const refused = await client.PUT("/config/{service}/{environment}/{key}", {
  params: { ...key, query: { expect_version: 7 } },
  body: "red",
});
assert.equal(refused.response.status, 412);

const watch = await client.GET("/config/{service}/{environment}", {
  params: document,
  headers: { Accept: "text/event-stream" },
  parseAs: "stream",
});
const seen: string[] = [];
let rest = "";
for await (const text of watch.data!.pipeThrough(new TextDecoderStream())) {
  rest += text;
  const events = rest.split("\n\n");
  rest = events.pop()!;
  for (const event of events) {
    const lines = event.split("\n").map((line) => line.split(": ", 2)[0] === "data" ? ["data", line.slice(6)] : line.split(": ", 2));
    const { event: kind, data } = Object.fromEntries(lines) as Record<string, string>;
    if (kind === "put" || kind === "remove") {
      const item: Configuration = JSON.parse(data);
      seen.push(`${kind} ${item.key} ${item.version}`);
    }
    if (kind === "ready") {
      await client.DELETE("/config/{service}/{environment}/{key}", { params: key });
    }
  }
  if (seen.length === 2) break;
}
assert.deepEqual(seen, ["put color 1", "remove color 2"]);
console.log("it wrote, read, watched and was refused as described");
