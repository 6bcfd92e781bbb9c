// A new process on the port of the old one, while the old one drains: nobody is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fleet, Ledger } from "./fleet.mjs";
import { SOON, Server, within } from "./harness.mjs";
import { Redis } from "./redis.mjs";

/** Both processes say so: without it a second one on the port is an error, as ever. */
const TAKEOVER = { TENANTCAST_SERVER__TAKEOVER: "true" };

test("the next process takes over the listening port, and no connection is refused", async (t) => {
  const redis = await Redis.start(t);
  const fleet = await Fleet.start(t, redis, { count: 1, config: "[drain]\nspread_ms = 1000\n", env: TAKEOVER });
  const [{ port, url }] = fleet.nodes;
  const ledger = new Ledger(t, fleet, "takeover");
  await Promise.all(Array.from({ length: 60 }, (_, n) => ledger.receive(`member-${n}`, ["r"], url)));
  await ledger.publish("ana", "r", { url, every: 20 });
  let [asked, refused, isOver] = [0, 0, false];
  const knocking = (async () => {
    while (!isOver) {
      asked++;
      await fetch(`${url}/health/live`, { headers: { connection: "close" } }).catch(() => refused++);
      // The pace of who knocks: nothing is waited for by it.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  for (let round = 0; round < 3; round++) {
    await ledger.grown(20);
    const old = fleet.nodes[0];
    const next = await Server.start({ ...fleet.options, port });
    fleet.nodes = [next, old];
    old.signal("SIGTERM");
    assert.deepEqual(await within(SOON * 2, old.exited, "the end of the old process"), { code: 0, signal: null });
    fleet.nodes = [next];
    await old.stop();
  }
  await ledger.grown(20);
  isOver = true;
  await knocking;
  await ledger.settle();
  const { recovered } = ledger.check();
  t.diagnostic(`asked ${asked} times, refused ${refused}`);
  assert.equal(refused, 0);
  assert.ok(recovered >= 180, `everybody was moved three times: ${recovered}`);
});

test("without a word of it, a second process on the port is an error", async (t) => {
  const first = await Server.start({ env: TAKEOVER });
  t.after(() => first.stop());
  await assert.rejects(Server.start({ port: first.port }), /cannot listen on/);
  assert.equal((await first.fetch("/health/live")).status, 200);
});

test("long-polling clients find the next process on the port, and the old one answers through it", async (t) => {
  const redis = await Redis.start(t);
  const fleet = await Fleet.start(t, redis, { count: 1, config: "[drain]\nspread_ms = 3000\n", env: TAKEOVER });
  await fleet.becomes("ok");
  const [old] = fleet.nodes;
  const ledger = new Ledger(t, fleet, "takeover-polling");
  const options = { transports: ["polling"] };
  await Promise.all(Array.from({ length: 20 }, (_, n) => ledger.receive(`member-${n}`, ["r"], old.url, options)));
  await ledger.publish("ana", "r", { every: 20 });
  await ledger.grown(20);
  const next = await Server.start({ ...fleet.options, port: old.port });
  fleet.nodes = [next, old];
  await fleet.becomes("ok");
  old.signal("SIGTERM");
  assert.deepEqual(await within(SOON * 2, old.exited, "the end of the old process"), { code: 0, signal: null });
  fleet.nodes = [next];
  await old.stop();
  await ledger.flows();
  await ledger.settle();
  ledger.check();
  for (const { client } of ledger.receivers) assert.deepEqual(client.all("(disconnect)").length, 1, "each was moved once");
});

test("a drained node lets its clients go one after the other, over `drain.spread_ms`", async (t) => {
  const redis = await Redis.start(t);
  const fleet = await Fleet.start(t, redis, { count: 2, config: "[drain]\nspread_ms = 2000\ntimeout_ms = 10000\n" });
  const ledger = new Ledger(t, fleet, "spread");
  await Promise.all(Array.from({ length: 60 }, (_, n) => ledger.receive(`member-${n}`, ["r"], fleet.nodes[0].url, { reconnection: false })));
  const began = Date.now();
  const gone = ledger.receivers.map(({ client }) => client.disconnected(SOON).then(() => Date.now() - began));
  await fleet.drain(0);
  const times = (await Promise.all(gone)).sort((a, b) => a - b);
  t.diagnostic(`gone after ${times[0]}, ${times[30]}, ${times[59]} ms`);
  assert.ok(times[59] > 1_000 && times[59] < 4_000 && times[30] > 400, "not a herd");
});
