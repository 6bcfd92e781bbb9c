// Travel Umroh: its own client, its whole catalogue by role, history, narrowing by type and entity.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Client, Server } from "./harness.mjs";
import { Console, isWhole, join, publishAll, token } from "./catalogue.mjs";

let server;
before(async () => (server = await Server.start({ env: { PROFILE: "travel-umroh" } })));
after(() => server.stop());

const person = (tenant, user, role) => ({ sub: user, tenantId: tenant, role });
const gateway = () => `${server.url}/ws`;
const PAYMENT = { paymentId: "p1", jamaahId: "j1", jamaahName: "Siti", amount: 1500, paymentMethod: "transfer", paymentType: "deposit", status: "confirmed" };

test("the application's own client", async (t) => {
  const console = new Console();
  const url = server.url.replace("http", "ws");
  // As the application documents it; address and token filled in.
  const socket = io(`${url}/ws`, {
    auth: {
      token: token(person("abc123", "ani", "agent")),
    },
  });

  socket.on('connected', (data) => {
    console.log('Connected:', data);
  });

  // Subscribe to payment events
  socket.emit('subscribe', {
    eventTypes: ['payment.confirmed', 'payment.received'],
  });

  // Listen for events
  socket.on('event', (event) => {
    console.log('Received event:', event);
  });
  // To here.
  t.after(() => socket.disconnect());

  const welcome = await console.said("Connected:");
  assert.deepEqual([welcome.tenant, welcome.user, welcome.rooms], ["abc123", "ani", ["tenant:abc123", "user:ani"]]);
  // Its subscription is done when something behind it is answered.
  assert.equal((await socket.emitWithAck("history", { limit: 1 })).ok, true);
  await server.publish("abc123", [
    { type: "package.created", data: { packageId: "g1" } },
    { type: "payment.confirmed", data: PAYMENT, entity: { type: "payment", id: "p1" } },
    { type: "lead.created", data: { leadId: "l1" } },
    { type: "payment.received", data: { paymentId: "p2" } },
  ]);
  const event = await console.said("Received event:");
  assert.deepEqual([event.type, event.data, event.entity], ["payment.confirmed", PAYMENT, { type: "payment", id: "p1" }]);
  assert.match(event.id, /^[0-9A-Z]{26}$/);
  assert.equal(typeof event.offset, "number");
  assert.equal((await console.said("Received event:")).type, "payment.received", "nothing it did not subscribe to came between");
});

test("every event of the catalogue, to those and only those who may", async (t) => {
  const clients = {};
  for (const [name, tenant, role] of [
    ["root", "agency", "super_admin"],
    ["admin", "agency", "admin"],
    ["owner", "agency", "agency_owner"],
    ["agent", "agency", "agent"],
    ["staff", "agency", "staff"],
    ["rival", "other agency", "agency_owner"],
  ]) {
    clients[name] = { tenant, client: await join(t, gateway(), person(tenant, name, role)) };
  }
  // The same names in another tenant, and the namespace without a name.
  clients.twin = { tenant: "other agency", client: await join(t, server.url, person("other agency", "agent", "agent")) };
  clients.plain = { tenant: "agency", client: await join(t, server.url, person("agency", "plain", "agent")) };

  const office = ["root", "admin", "owner"];
  const agents = [...office, "agent", "plain"];
  const all = [...agents, "staff"];
  const rows = [
    [{ type: "jamaah.created", data: { jamaahId: "j1" }, entity: { type: "jamaah", id: "j1" } }, all],
    [{ type: "jamaah.updated", data: { jamaahId: "j1" } }, all],
    [{ type: "jamaah.deleted", data: { jamaahId: "j1" } }, all],
    [{ type: "jamaah.status_changed", data: { jamaahId: "j1", status: "departed" } }, all],
    [{ type: "jamaah.document_updated", data: { jamaahId: "j1" } }, all],
    [{ type: "payment.received", data: { paymentId: "p1" } }, all],
    [{ type: "payment.confirmed", data: PAYMENT }, all],
    [{ type: "payment.cancelled", data: { paymentId: "p1" } }, all],
    [{ type: "payment.refunded", data: { paymentId: "p1" } }, all],
    [{ type: "commission.created", data: { commissionId: "c1" } }, agents],
    [{ type: "commission.approved", data: { commissionId: "c1" } }, office],
    [{ type: "commission.paid", data: { commissionId: "c1" } }, office],
    // And to the agent whose it is.
    [{ type: "commission.approved", data: { commissionId: "c2" }, user: "agent" }, ["agent"]],
    [{ type: "commission.paid", data: { commissionId: "c2" }, user: "agent" }, ["agent"]],
    [{ type: "document.uploaded", data: { documentId: "d1" } }, all],
    [{ type: "document.approved", data: { documentId: "d1" } }, all],
    [{ type: "document.rejected", data: { documentId: "d1" } }, all],
    [{ type: "package.created", data: { packageId: "g1" } }, all],
    [{ type: "package.updated", data: { packageId: "g1" } }, all],
    [{ type: "package.deleted", data: { packageId: "g1" } }, all],
    [{ type: "lead.created", data: { leadId: "l1", leadName: "Budi", agentId: "agent", status: "new" } }, agents],
    [{ type: "lead.updated", data: { leadId: "l1" } }, agents],
    [{ type: "lead.converted", data: { leadId: "l1" } }, agents],
    [{ type: "notification", data: { title: "to all" } }, all],
    [{ type: "notification", data: { title: "to one" }, user: "staff" }, ["staff"]],
    [{ type: "job.completed", data: { jobId: "1" } }, office],
    [{ type: "job.failed", data: { jobId: "1" } }, office],
    // "User will receive WebSocket event when report is ready".
    [{ type: "job.completed", data: { jobId: "2", type: "generate-financial-report" }, user: "staff" }, ["staff"]],
    [{ type: "job.failed", data: { jobId: "2" }, user: "staff" }, ["staff"]],
    [{ type: "cache.invalidated", data: { resource: "package" } }, office],
  ];
  isWhole("travel-umroh", rows);
  const end = { type: "notification", data: { title: "the end" } };
  await publishAll({ server, tenant: "agency", delivery: "event", clients, rows, end });
});

test("a type that is no event of the application is refused, and so is data that is not as it says", async (t) => {
  const ani = await join(t, gateway(), person("typed", "ani", "agent"));
  for (const [event, code, pointer] of [
    [{ type: "payment.confimed", data: PAYMENT }, "unknown_type"],
    [{ type: "payment.confirmed", data: { ...PAYMENT, amount: "1500" } }, "invalid_data", "/data/amount"],
    [{ type: "payment.confirmed", data: { ...PAYMENT, status: "pending" } }, "invalid_data", "/data/status"],
  ]) {
    const { status, body } = await server.api("POST", "typed", "events", { body: event });
    assert.deepEqual([status, body.code], [400, code], JSON.stringify(body));
    if (pointer) assert.equal(body.pointer, pointer);
  }
  // Only the backend publishes.
  const answer = await ani.ask("publish", { room: "tenant:typed", type: "payment.confirmed", data: PAYMENT });
  assert.equal(answer.ok, false);
  await server.publish("typed", { type: "notification", data: "end" });
  assert.equal((await ani.next("event")).type, "notification", "nothing came before");
});

test("the last 100 events of the tenant, for whoever comes back", async (t) => {
  for (let at = 0; at < 105; at += 21) {
    await server.publish("busy", Array.from({ length: 21 }, (_, n) => ({ type: "package.updated", data: { n: at + n } })));
  }
  const ani = await join(t, gateway(), person("busy", "ani", "agent"));
  const { ok, events } = await ani.ask("history", {});
  assert.equal(ok, true);
  assert.deepEqual(events.map(({ data }) => data.n), Array.from({ length: 100 }, (_, n) => n + 5));
  const rival = await join(t, gateway(), person("idle", "ani", "agent"));
  assert.deepEqual((await rival.ask("history", {})).events, []);
  assert.equal((await rival.ask("history", { room: "tenant:busy" })).ok, false);
});

test("updates of one pilgrim only", async (t) => {
  const ani = await join(t, gateway(), person("narrow", "ani", "agent"));
  await ani.ask("subscribe", { entities: [{ type: "jamaah", id: "j1" }] });
  await server.publish("narrow", [
    { type: "jamaah.updated", data: 2, entity: { type: "jamaah", id: "j2" } },
    { type: "jamaah.updated", data: 1, entity: { type: "jamaah", id: "j1" } },
  ]);
  assert.equal((await ani.next("event")).data, 1);
});

test("without a token, nobody", async (t) => {
  for (const [auth, code] of [[undefined, "token_missing"], [{ token: "your-jwt-token" }, "token_malformed"]]) {
    const nobody = new Client(t, gateway(), { auth });
    assert.equal((await nobody.refusal()).data.code, code);
  }
});
