// `connections_per_address` over all nodes: whoever is over the limit of all is closed, and a node that dies is not counted for long.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Fleet } from "./fleet.mjs";
import { Client, Plain, mint, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const LIMIT = 3;
const LEASE_S = 3;

const whole = scope();
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  const env = { WS_MAX_CONNECTIONS_PER_IP: String(LIMIT), WS_PRESENCE_TTL: String(LEASE_S) };
  fleet = await Fleet.start(whole, redis, { count: 2, env });
  await fleet.becomes("ok");
});

/** What the nodes have said of this machine, as long as it counts. */
const counted = async () => {
  const said = await redis.ask("HGETALL", "tc:a:{127.0.0.1}");
  const values = said.filter((_, n) => n % 2 === 1).map((text) => text.split(" ").map(Number));
  return values.filter(([, ends]) => ends > Date.now()).reduce((sum, [count]) => sum + count, 0);
};
const settled = (n) => until(async () => (await counted()) === n, `${n} connections are counted`);

test("connections of one address to several nodes are counted together", async (t) => {
  // Of different tenants, too.
  const kept = [];
  for (const [at, tenant] of [[0, "acme"], [1, "globex"], [1, "acme"]]) kept.push(await Client.join(t, fleet.nodes[at], tenant, "ana"));
  await settled(3);
  // A fourth is over the limit of all, on either node, though on none over its own.
  for (const at of [0, 1]) {
    const over = new Client(t, fleet.nodes[at].url, { auth: { token: mint("acme", "ben") }, reconnection: false });
    assert.equal((await over.next("error")).code, "too_many_connections");
    await over.disconnected();
  }
  await settled(3);
  for (const client of kept) assert.ok(client.socket.connected);
  // One goes, and another may come, to the other node, over `/ws` as well.
  kept[1].socket.disconnect();
  await settled(2);
  const plain = new Plain(t, fleet.nodes[0], { token: mint("acme", "cat") });
  await plain.next("connected");
  await settled(3);
  // A node dies without a word: what it had counts until its lease is over.
  await fleet.kill(1);
  await settled(2);
  const late = await Client.join(t, fleet.nodes[0], "acme", "dan");
  await settled(3);
  assert.ok(late.socket.connected && kept[0].socket.connected);
});
