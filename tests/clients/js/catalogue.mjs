// What the tests of the profiles share: a backend that publishes a whole catalogue, who got what of it, and a snippet's console.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Client, Log, sign, now } from "./harness.mjs";

/** An event as `[type, data]`, by how the profile delivers. */
const READ = {
  named: ({ name, args }) => [name, args[0]],
  event: ({ name, args }) => (name === "event" ? [args[0].type, args[0].data] : [name, args[0]]),
  message: ({ name, args }) => (name === "message" ? [args[0].type, args[0].data] : [name, args[0]]),
};

const key = ([type, data]) => `${type} ${JSON.stringify(data ?? null)}`;

/** Names of the event catalogue of a built-in profile. */
export function catalogueOf(profile) {
  const text = readFileSync(new URL(`../../../src/profile/builtin/${profile}.toml`, import.meta.url), "utf8");
  return [...text.matchAll(/^\[events\.(?:"([^"]+)"|([\w-]+))\]$/gm)].map(([, quoted, bare]) => quoted ?? bare);
}

/**
 * Publishes through the HTTP API what `rows` hold, `[event, who]`, each once and in this order, and then `end` to every tenant of `clients`
 * (`{name: {client, tenant}}`), which everybody gets. Each client has then got exactly the events whose `who` names it, each once, in order.
 */
export async function publishAll({ server, tenant, delivery, rows, clients, end }) {
  const read = READ[delivery];
  const own = new Set(rows.map(([{ type, data }]) => key([type, data])));
  assert.equal(own.size, rows.length, "rows are told apart by type and data");
  for (let at = 0; at < rows.length; at += 100) {
    const receipts = await server.publish(tenant, rows.slice(at, at + 100).map(([event]) => event));
    assert.equal(receipts.length, Math.min(100, rows.length - at));
  }
  const tenants = new Set(Object.values(clients).map((member) => member.tenant));
  for (const each of tenants) await server.publish(each, end);
  const last = key([end.type, end.data]);
  for (const [name, { client }] of Object.entries(clients)) {
    await client.log.take((entry) => key(read(entry)) === last, `${name}: the last event`);
    const got = client.log.entries.map((entry) => key(read(entry))).filter((each) => own.has(each));
    const want = rows.filter(([, who]) => who.includes(name)).map(([{ type, data }]) => key([type, data]));
    assert.deepEqual(got, want, `what ${name} of ${clients[name].tenant} got`);
  }
}

/** Every name of the catalogue is in a row. */
export function isWhole(profile, rows) {
  const published = new Set(rows.map(([{ type }]) => type));
  assert.deepEqual(catalogueOf(profile).filter((type) => !published.has(type)), [], `not published: events of ${profile}`);
}

/** A token with these claims, good for an hour. */
export const token = (claims) => sign({ iat: now(), exp: now() + 3600, ...claims });

/** Connects with these claims and waits for the welcome. */
export async function join(t, url, claims, options = {}) {
  const client = new Client(t, url, { auth: { token: token(claims) }, ...options });
  client.welcome = await client.next("connected");
  return client;
}

/** A snippet's `console`: what it logs can be waited for. */
export class Console {
  lines = new Log();
  log = (label, ...rest) => this.lines.push({ name: label, args: rest });

  /** The next line that begins with `label`: what stood behind it. */
  async said(label) {
    return (await this.lines.take(({ name }) => name === label, `the line "${label}"`)).args[0];
  }

  all(label) {
    return this.lines.entries.filter(({ name }) => name === label).map(({ args }) => args[0]);
  }
}
