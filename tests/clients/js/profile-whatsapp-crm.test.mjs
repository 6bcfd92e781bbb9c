// WhatsApp CRM: rooms by a plain id, typing to a contact's room, heartbeat, all its events.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Client, Server, sign } from "./harness.mjs";
import { Console, isWhole, join, publishAll, token } from "./catalogue.mjs";

let server;
before(async () => {
  server = await Server.start({ env: { PROFILE: "whatsapp-crm" } });
  process.env.API_URL = server.url;
});
after(() => server.stop());

const person = (company, user, more = {}) => ({ userId: user, userEmail: `${user}@crm.example`, userRole: "agent", companyId: company, ...more });

test("the application's own client", async (t) => {
  const console = new Console();
  const accessToken = token(person("crm", "u1"));
  const [whatsappAccountId, contactId] = ["wa1", "c1"];
  const other = await join(t, server.url, person("crm", "u2"));
  assert.equal((await other.ask("subscribe:contact", contactId)).ok, true);

  // As the application documents it.
  // Connect with authentication
  const socket = io(process.env.API_URL, {
    auth: { token: accessToken }
  });

  // Handle connection
  socket.on('connect', () => {
    console.log('Connected to Socket.io');

    // Subscribe to WhatsApp account
    socket.emit('subscribe:whatsapp', whatsappAccountId);
  });

  // Listen for events
  socket.on('whatsapp:connection:status', (data) => {
    console.log('WhatsApp status:', data.status);
  });

  socket.on('message:received', (data) => {
    console.log('New message:', data.message);
  });

  socket.on('message:status:update', (data) => {
    console.log('Message status:', data.status);
  });

  // Typing indicators
  socket.emit('typing:start', { contactId, whatsappAccountId });
  socket.emit('typing:stop', { contactId, whatsappAccountId });

  // Cleanup
  socket.on('disconnect', () => {
    console.log('Disconnected from Socket.io');
  });
  // To here.
  t.after(() => socket.disconnect());

  await console.said("Connected to Socket.io");
  for (const isTyping of [true, false]) {
    assert.deepEqual(await other.next("typing:indicator"), { contactId, whatsappAccountId, isTyping, userId: "u1" });
  }
  // Behind its subscription.
  await socket.emitWithAck("ping");
  await server.publish("crm", [
    { type: "whatsapp:connection:status", room: "whatsapp:wa1", data: { accountId: "wa1", status: "Connected" } },
    { type: "whatsapp:connection:status", room: "whatsapp:wa2", data: { accountId: "wa2", status: "Failed" } },
    { type: "message:received", user: "u1", data: { message: { id: "m1", content: "hi" } } },
    { type: "message:status:update", user: "u1", data: { messageId: "m1", status: "Read" } },
  ]);
  assert.equal(await console.said("WhatsApp status:"), "Connected");
  assert.deepEqual(await console.said("New message:"), { id: "m1", content: "hi" });
  assert.equal(await console.said("Message status:"), "Read");
  assert.equal(console.all("WhatsApp status:").length, 1);
  socket.disconnect();
  await console.said("Disconnected from Socket.io");
});

test("heartbeat: ping, pong", async (t) => {
  const ana = await join(t, server.url, person("crm", "ana"));
  const before = Date.now();
  ana.socket.emit("ping");
  const { timestamp } = await ana.next("pong");
  assert.equal(typeof timestamp, "number");
  assert.ok(Math.abs(timestamp - before) < 60_000, `${timestamp}`);
});

test("joining and leaving, by a plain id and by what the token says", async (t) => {
  const ana = await join(t, server.url, person("rooms", "ana"));
  const temp = await join(t, server.url, person("rooms", "temp", { rooms: ["campaign:1"] }));
  for (const [client, event, argument, ok] of [
    [ana, "subscribe:whatsapp", "wa1", true],
    [ana, "subscribe:campaign", "1", true],
    [ana, "subscribe:contact", 42, true],
    [temp, "subscribe:campaign", "1", true],
    [temp, "subscribe:campaign", "2", false],
    [temp, "subscribe:whatsapp", "wa1", false],
    [ana, "subscribe:whatsapp", "", false],
    [ana, "subscribe:whatsapp", { id: "wa1" }, false],
    [ana, "unsubscribe:campaign", "1", true],
  ]) {
    const answer = await client.ask(event, argument);
    assert.equal(answer.ok, ok, `${event} ${JSON.stringify(argument)}: ${JSON.stringify(answer)}`);
  }
  await server.publish("rooms", [
    { type: "campaign:started", room: "campaign:1", data: 1 },
    { type: "contact:updated", room: "contact:42", data: 2 },
  ]);
  assert.equal(await temp.next("campaign:started"), 1);
  assert.equal(await ana.next("contact:updated"), 2);
  assert.deepEqual(ana.all("campaign:started"), [], "it has left");
});

test("typing reaches the others at that contact, and nobody of another company", async (t) => {
  const [ana, ben, far] = await Promise.all(["ana", "ben", "far"].map((user) => join(t, server.url, person("typing", user))));
  const rival = await join(t, server.url, person("rival", "ben"));
  for (const client of [ana, ben, rival]) await client.ask("subscribe:contact", "c1");
  await far.ask("subscribe:contact", "c2");
  await ana.ask("typing:start", { contactId: "c1", whatsappAccountId: "wa1" });
  assert.deepEqual(await ben.next("typing:indicator"), { contactId: "c1", whatsappAccountId: "wa1", isTyping: true, userId: "ana" });
  for (const company of ["typing", "rival"]) await server.publish(company, { type: "system:notification", data: "end" });
  for (const client of [ana, far, rival]) {
    await client.next("system:notification");
    assert.deepEqual(client.all("typing:indicator"), []);
  }
});

test("every event of the catalogue, to those and only those who may", async (t) => {
  const clients = {};
  for (const [name, company] of [["ana", "acme"], ["ben", "acme"], ["cy", "acme"], ["rival", "globex"]]) {
    clients[name] = { tenant: company, client: await join(t, server.url, person(company, name)) };
  }
  for (const [name, event, id] of [
    ["ana", "subscribe:whatsapp", "wa1"],
    ["ben", "subscribe:campaign", "7"],
    ["cy", "subscribe:contact", "c1"],
    ["rival", "subscribe:whatsapp", "wa1"],
    ["rival", "subscribe:campaign", "7"],
    ["rival", "subscribe:contact", "c1"],
  ]) {
    assert.equal((await clients[name].client.ask(event, id)).ok, true);
  }
  const all = ["ana", "ben", "cy"];
  const account = { room: "whatsapp:wa1" };
  const campaign = { room: "campaign:7" };
  const contact = { room: "contact:c1" };
  const rows = [
    [{ type: "whatsapp:connection:status", ...account, data: { accountId: "wa1", status: "Connecting" } }, ["ana"]],
    [{ type: "whatsapp:qr:generated", ...account, data: { accountId: "wa1", qrCode: "2@abc" } }, ["ana"]],
    [{ type: "whatsapp:ready", ...account, data: { accountId: "wa1" } }, ["ana"]],
    [{ type: "whatsapp:disconnected", ...account, data: { accountId: "wa1", reason: "logout" } }, ["ana"]],
    ...["Queued", "Sent", "Delivered", "Read", "Failed"].map((status) => [
      { type: "message:status:update", user: "ben", data: { messageId: "m1", status } },
      ["ben"],
    ]),
    [{ type: "message:received", ...contact, data: { message: { id: "m2" } } }, ["cy"]],
    [{ type: "message:sent", user: "ben", data: { message: { id: "m1" } } }, ["ben"]],
    [{ type: "message:delivered", user: "ben", data: { messageId: "m1" } }, ["ben"]],
    [{ type: "message:read", user: "ben", data: { messageId: "m1" } }, ["ben"]],
    [{ type: "message:failed", user: "ben", data: { messageId: "m1", error: "no number" } }, ["ben"]],
    [{ type: "campaign:started", ...campaign, data: { campaignId: "7" } }, ["ben"]],
    [{ type: "campaign:progress", ...campaign, data: { campaignId: "7", progress: { sent: 100, total: 200 } } }, ["ben"]],
    [{ type: "campaign:completed", ...campaign, data: { campaignId: "7" } }, ["ben"]],
    [{ type: "campaign:paused", ...campaign, data: { campaignId: "7" } }, ["ben"]],
    [{ type: "campaign:resumed", ...campaign, data: { campaignId: "7" } }, ["ben"]],
    [{ type: "campaign:failed", ...campaign, data: { campaignId: "7" } }, ["ben"]],
    [{ type: "contact:created", data: { contact: { id: "c2" } } }, all],
    [{ type: "contact:updated", ...contact, data: { contactId: "c1" } }, ["cy"]],
    [{ type: "contact:deleted", ...contact, data: { contactId: "c1" } }, ["cy"]],
    [{ type: "flow:execution:started", user: "ana", data: { flowId: "f", executionId: "x" } }, ["ana"]],
    [{ type: "flow:execution:completed", user: "ana", data: { flowId: "f", executionId: "x" } }, ["ana"]],
    [{ type: "flow:execution:failed", user: "ana", data: { flowId: "f", executionId: "x" } }, ["ana"]],
    [{ type: "system:notification", data: { notification: "maintenance" } }, all],
    [{ type: "team:activity", data: { activity: "logged in" } }, all],
  ];
  isWhole("whatsapp-crm", rows);
  await publishAll({ server, tenant: "acme", delivery: "named", clients, rows, end: { type: "system:notification", data: "end" } });
});

test("valid token, no token, invalid token", async (t) => {
  await join(t, server.url, person("crm", "ana"));
  for (const [auth, code] of [
    [undefined, "token_missing"],
    [{ token: "invalid-token" }, "token_malformed"],
    [{ token: sign(person("crm", "ana"), { secret: "another secret of more than 32 bytes" }) }, "token_invalid"],
  ]) {
    const nobody = new Client(t, server.url, { auth });
    assert.equal((await nobody.refusal()).data.code, code);
  }
  // Or in the head of the request.
  const header = new Client(t, server.url, { extraHeaders: { Authorization: `Bearer ${token(person("crm", "ana"))}` } });
  await header.next("connected");
});
