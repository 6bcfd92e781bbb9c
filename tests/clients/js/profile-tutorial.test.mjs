// The profile that the README writes from nothing does what the README says of it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Server } from "./harness.mjs";
import { join } from "./catalogue.mjs";

const readme = readFileSync(new URL("../../../README.md", import.meta.url), "utf8");
const text = readme.split("```toml\n").find((part) => part.startsWith('name = "courier"')).split("```")[0];

let place;
let server;
before(async () => {
  place = mkdtempSync(path.join(tmpdir(), "tenantcast-tutorial-"));
  const profile = path.join(place, "courier.toml");
  writeFileSync(profile, text);
  server = await Server.start({ env: { PROFILE: profile } });
});
after(async () => {
  await server.stop();
  rmSync(place, { recursive: true });
});

const person = (city, user, role, more = {}) => ({ sub: user, city, role, ...more });

test("couriers, and the customers who wait for them", async (t) => {
  const ann = await join(t, server.url, person("oslo", "ann", "courier"));
  const cid = await join(t, server.url, person("oslo", "cid", "customer", { rooms: ["parcel:7"] }));
  const dora = await join(t, server.url, person("oslo", "dora", "dispatcher"));
  const rival = await join(t, server.url, person("bergen", "ann", "courier"));
  assert.deepEqual(ann.welcome.rooms, ["city:oslo", "person:ann"]);
  assert.deepEqual(await ann.ask("follow", "7"), { ok: true, room: "parcel:7" });
  assert.equal((await cid.ask("follow", "7")).ok, true);
  assert.equal((await cid.ask("follow", "8")).ok, false);
  assert.equal((await rival.ask("follow", "7")).ok, true);

  const at = [59.9, 10.7];
  assert.equal((await ann.ask("position", { parcel: "7", at })).ok, true);
  assert.deepEqual(await cid.next("position"), { courier: "ann", parcel: "7", at });
  assert.equal((await cid.ask("position", { parcel: "7", at })).code, "forbidden", "couriers only");
  assert.equal((await ann.ask("position", { parcel: "7", at: "north" })).code, "invalid_data");

  await server.publish("oslo", [
    { type: "cash:short", data: 1 },
    { type: "parcel:delivered", room: "parcel:7", data: { parcel: "7" } },
  ]);
  assert.deepEqual(await cid.next("parcel:delivered"), { parcel: "7" });
  await server.publish("oslo", { type: "end" });
  await server.publish("bergen", { type: "end" });
  for (const [client, cash, delivered] of [[ann, 0, 1], [cid, 0, 1], [dora, 1, 0], [rival, 0, 0]]) {
    await client.next("end");
    assert.deepEqual([client.all("cash:short").length, client.all("parcel:delivered").length], [cash, delivered]);
  }
  assert.deepEqual([...ann.all("position"), ...rival.all("position")], []);
  const { events } = await cid.ask("parcel:history", { parcel: "7" });
  assert.deepEqual(events.map(({ type }) => type), ["parcel:delivered"]);
});

test("its listener", async (t) => {
  const dora = await join(t, server.url, person("listened", "dora", "dispatcher"));
  await server.publish("listened", { type: "parcel:delivered", room: "parcel:7", data: { parcel: "7" } });
  assert.deepEqual(await dora.next("city:delivered"), { parcel: "7" });
});
