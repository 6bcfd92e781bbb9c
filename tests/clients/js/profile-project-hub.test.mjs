// Project hub: a token that comes after the connection, project rooms, messages of {type, data}.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Client, Server, SOON } from "./harness.mjs";
import { Console, isWhole, publishAll, token } from "./catalogue.mjs";

let server;
before(async () => (server = await Server.start({ env: { PROFILE: "project-hub" } })));
after(() => server.stop());

const person = (organization, user, more = {}) => ({ userId: user, organizationId: organization, ...more });

/** Connects without a token, and sends it then. */
async function enter(t, organization, user, more) {
  const client = new Client(t, server.url);
  await client.next("(connect)");
  client.socket.emit("authenticate", token(person(organization, user, more)));
  assert.deepEqual(await client.next("authenticated"), { userId: user });
  return client;
}

test("the application's own protocol: authenticate, authenticated, join_project, message", async (t) => {
  const console = new Console();
  const accessToken = token(person("ncy", "u1"));
  const projectId = "p1";
  // What a client of the application's server does.
  const socket = io(server.url, { transports: ["websocket", "polling"] });
  socket.on("connect", () => {
    socket.emit("authenticate", accessToken);
  });
  socket.on("authenticated", ({ userId }) => {
    console.log("authenticated", userId);
    socket.emit("join_project", projectId);
  });
  socket.on("message", (message) => console.log("message", message));
  // To here.
  t.after(() => socket.disconnect());

  assert.equal(await console.said("authenticated"), "u1");
  // Behind the join: what is answered later comes later.
  assert.equal((await socket.emitWithAck("join_project", "p2")).ok, true);
  // Handlers of the application: a task was updated, its assignee is notified, somebody's status has changed.
  const update = { type: "task_updated", taskId: "t1", update: { title: "new" } };
  const notification = { type: "TASK_UPDATED", message: 'Task "new" has been updated', taskId: "t1" };
  const status = { type: "user_status_changed", userId: "u2", status: "away" };
  await server.publish("ncy", [
    { type: "project_update", room: "project:p1", data: update },
    { type: "notification", user: "u1", data: notification },
    { type: "user_update", user: "u1", data: status },
  ]);
  for (const want of [
    { type: "project_update", data: update },
    { type: "notification", data: notification },
    { type: "user_update", data: status },
  ]) {
    assert.deepEqual(await console.said("message"), want);
  }
  // leave_project, with a plain string as well.
  assert.equal((await socket.emitWithAck("leave_project", "p1")).ok, true);
  await server.publish("ncy", [
    { type: "project_update", room: "project:p1", data: update },
    { type: "notification", user: "u1", data: { type: "end" } },
  ]);
  assert.deepEqual(await console.said("message"), { type: "notification", data: { type: "end" } });
});

test("before its token a socket is nobody and gets nothing", async (t) => {
  const early = new Client(t, server.url);
  await early.next("(connect)");
  early.socket.emit("join_project", "p1");
  const ready = await enter(t, "early", "u1");
  assert.equal((await ready.ask("join_project", "p1")).ok, true);
  await server.publish("early", [
    { type: "project_update", room: "project:p1", data: { type: "first" } },
    { type: "notification", data: { type: "to all" } },
  ]);
  await ready.next("message", ({ type }) => type === "notification");
  early.socket.emit("authenticate", token(person("early", "u2")));
  await early.next("authenticated");
  await server.publish("early", [
    { type: "project_update", room: "project:p1", data: { type: "second" } },
    { type: "notification", data: { type: "end" } },
  ]);
  assert.deepEqual(await early.next("message"), { type: "notification", data: { type: "end" } }, "not even the room it asked for too early");
});

test("authentication_failed, and disconnected", async (t) => {
  for (const bad of ["nonsense", token(person("ncy", "u1", { exp: 1 })), `${token(person("ncy", "u1"))}x`, token({ userId: "u1" }), 7, null]) {
    const client = new Client(t, server.url, { reconnection: false });
    await client.next("(connect)");
    client.socket.emit("authenticate", bad);
    await client.next("authentication_failed");
    await client.disconnected();
    assert.deepEqual(client.all("authenticated"), [], JSON.stringify(bad));
  }
});

test("who says nothing is closed when its time is over", async (t) => {
  const brisk = await Server.start({ env: { PROFILE: "project-hub", TENANTCAST_AUTH__DEADLINE_MS: "300" } });
  t.after(() => brisk.stop());
  const silent = new Client(t, brisk.url, { reconnection: false });
  await silent.next("(connect)");
  assert.equal((await silent.next("error", () => true, SOON)).code, "auth_timeout");
  await silent.disconnected();
});

test("every message of the catalogue, to those and only those who may", async (t) => {
  const clients = {};
  for (const [name, organization, more] of [
    ["admin", "org1", { role: "admin" }],
    ["ann", "org1", {}],
    ["bob", "org1", {}],
    ["guest", "org1", { rooms: ["project:other"] }],
    ["rival", "org2", { role: "admin" }],
  ]) {
    clients[name] = { tenant: organization, client: await enter(t, organization, name, more) };
  }
  for (const [name, ok] of [["ann", true], ["rival", true], ["guest", false]]) {
    assert.equal((await clients[name].client.ask("join_project", "p1")).ok, ok, name);
  }
  assert.equal((await clients.ann.client.ask("join_project", { id: "p1" })).ok, false, "an id is a string");
  const all = ["admin", "ann", "bob", "guest"];
  const rows = [
    // sendToUser, sendToOrganization, sendToProject.
    [{ type: "notification", user: "bob", data: { type: "TASK_UPDATED", message: "m", taskId: "t1" } }, ["bob"]],
    [{ type: "notification", data: { type: "organization" } }, all],
    [{ type: "project_update", room: "project:p1", data: { type: "task_updated", taskId: "t1", update: {} } }, ["ann"]],
    [{ type: "project_update", room: "project:p1", data: { type: "project_created", project: { id: "p1", name: "n", description: "d" } } }, ["ann"]],
    [{ type: "user_update", user: "ann", data: { type: "user_status_changed", userId: "bob", status: "away" } }, ["ann"]],
    [{ type: "JOB_FAILED", data: { message: "Job 1 failed", severity: "HIGH", metadata: { jobId: "1", queue: "email" } } }, ["admin"]],
    // Any message of the application's own.
    [{ type: "custom", data: 1 }, all],
  ];
  isWhole("project-hub", rows);
  await publishAll({ server, tenant: "org1", delivery: "message", clients, rows, end: { type: "notification", data: { type: "end" } } });
});
