// Starts the server, then the Rust client against it.
import { spawnSync } from "node:child_process";
import { SECRET, Server, mint, sign } from "../js/harness.mjs";

const server = await Server.start();
const bad = sign({ sub: "ana", tenant: "acme" }, { secret: `${SECRET}?` });
const { status, error } = spawnSync(process.argv[2], [server.url, mint("acme", "ana"), bad], { stdio: "inherit", timeout: 120_000 });
await server.stop();
if (error) throw error;
process.exit(status ?? 1);
