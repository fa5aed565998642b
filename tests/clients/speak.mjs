// Speak MCP as one of the TypeScript libraries, as speak.py does for those in Python: jobs as JSON lines on stdin, answers
// as JSON lines on stdout.
//
//     node speak.mjs NODE_MODULES sdk1|client2

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [, , modules, library] = process.argv;
const load = createRequire(`${modules}/`);
const held = new Map();

async function connect(url, headers, mode) {
  const about = { name: "speak", version: "1" };
  const options = { requestInit: { headers } };
  if (library === "sdk1") {
    const { Client } = load("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const transport = new StreamableHTTPClientTransport(new URL(url), options);
    const client = new Client(about);
    await client.connect(transport);
    return { client, transport };
  }
  const { Client, StreamableHTTPClientTransport } = load("@modelcontextprotocol/client");
  const transport = new StreamableHTTPClientTransport(new URL(url), options);
  const client = new Client(about, mode === "legacy" ? {} : { versionNegotiation: { mode } });
  await client.connect(transport);
  return { client, transport };
}

async function answer(job) {
  const { client, transport } = job.do === "open" ? {} : held.get(job.handle);
  switch (job.do) {
    case "open": {
      const opened = await connect(job.url, job.headers, job.mode);
      held.set(job.id, opened);
      const agreed = opened.client.getNegotiatedProtocolVersion?.() ?? opened.transport.protocolVersion;
      return { handle: job.id, protocol: String(agreed) };
    }
    case "tools":
      return (await client.listTools()).tools;
    case "call": {
      const asked = { name: job.name, arguments: job.arguments, ...(job.meta ? { _meta: job.meta } : {}) };
      return await (library === "sdk1"
        ? client.callTool(asked, undefined, { timeout: job.timeout * 1000 })
        : client.callTool(asked, { timeout: job.timeout * 1000 }));
    }
    case "close":
      held.delete(job.handle);
      await transport.terminateSession?.().catch(() => {});
      await client.close();
      return null;
    default:
      throw new Error(`no such job: ${job.do}`);
  }
}

function described(error) {
  const code = typeof error.code === "number" ? error.code : null;
  return { type: error.constructor.name, code, message: String(error.message), data: error.data ?? null };
}

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const job = JSON.parse(line);
    let said;
    try {
      said = { id: job.id, answer: (await answer(job)) ?? null };
    } catch (error) {
      said = { id: job.id, error: described(error) };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  })
  .on("close", () => process.exit(0));
