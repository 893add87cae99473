// Run a job with types that openapi-typescript has made; print its output and its exit code.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { env: Record<string, string>; stdout: { write(text: string): void } };

const client = createClient<paths>({
  baseUrl: process.env.WORKER_URL,
  headers: { Authorization: process.env.WORKER_LOGIN },
});
const job: components["schemas"]["JobSpec"] = {
  command: "sh",
  args: ["-c", "echo $GREETING; exit 3"],
  env: { GREETING: "hello" },
  cwd: "/",
  timeout: 60,
  limits: { open_files: 100 },
};

const created = await client.POST("/jobs/run", { body: job });
if (created.error) throw new Error(created.error.detail);
const path = { job_id: created.data.id };
const ended = await client.GET("/jobs/{job_id}/status", { params: { path, query: { wait: 30 } } });
if (ended.error) throw new Error(ended.error.detail);
const output = await client.GET("/jobs/{job_id}/out", {
  params: { path },
  headers: { Accept: "application/octet-stream" },
  parseAs: "text",
});
if (output.error) throw new Error("no output");
process.stdout.write(`${String(output.data).trim()} ${ended.data.exit_code}\n`);
