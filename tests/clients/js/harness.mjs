// What every client test shares: the real server as a process, tokens, official clients whose events are kept, and a line that can be cut.
//
// Nothing here sleeps: whoever waits, waits for an event, and says within which time it must come.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once as nodeOnce } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import WebSocket from "ws";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const BIN = path.resolve(ROOT, process.env.TENANTCAST_BIN ?? "target/debug/tenantcast");
const ECHO = path.resolve(ROOT, process.env.TENANTCAST_ECHO ?? "target/debug/examples/protocol_echo");

export const SECRET = "the client tests' secret, of more than 32 bytes";
/** An API key for every tenant, and one for `acme` alone. */
export const API_KEY = "key-of-every-tenant-0123456789abcdef";
export const ACME_KEY = "key-of-acme-alone-0123456789abcdef01";

/** How long anything may take that is not about time, in milliseconds. Generous: the tests also run on two busy cores. */
export const SOON = 10_000;

/** `promise`, or an error that says what did not come. */
export async function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${typeof what === "function" ? what() : what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks every `every` ms until `ask` answers something true. For what no event tells: what another process knows, or has in memory. */
export async function until(ask, what, ms = SOON, every = 25) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${typeof what === "function" ? await what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** The path of the default profile with these lines behind it. */
export function profileWith(t, lines) {
  const place = mkdtempSync(path.join(tmpdir(), "tenantcast-profile-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  const file = path.join(place, "default.toml");
  writeFileSync(file, `${readFileSync(path.join(ROOT, "src/profile/builtin/default.toml"), "utf8")}\n${lines}\n`);
  return file;
}

/** What a file of tests, or a group of them, begins once and ends with its last: `after(it.end)`. It has `after` as a test has. */
export function scope() {
  const stops = [];
  const end = async () => {
    for (const stop of stops.reverse()) await stop();
  };
  return { after: (stop) => stops.push(stop), end };
}

// Tokens.

const base64url = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
export const now = () => Math.floor(Date.now() / 1000);

/** A signed token with exactly these claims. */
export function sign(claims, { secret = SECRET, header = { alg: "HS256", typ: "JWT" } } = {}) {
  const text = `${base64url(header)}.${base64url(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

/** A token of `tenant` for `user`, good for an hour, that may publish, unless `more` says otherwise. */
export const mint = (tenant, user, more = {}) =>
  sign({ sub: user, tenant, permissions: ["publish"], iat: now(), exp: now() + 3600, ...more });

// The server.

/** Servers this process has started. */
let started = 0;

/** A running server process. */
export class Server {
  /**
   * Starts one and waits until it accepts.
   * `config` is the text of its configuration file; `env` is laid over the environment (null removes a variable).
   */
  static async start({ config, env = {}, port = 0 } = {}) {
    const place = mkdtempSync(path.join(tmpdir(), "tenantcast-clients-"));
    const args = ["serve"];
    if (config !== undefined) {
      const file = path.join(place, "tenantcast.toml");
      writeFileSync(file, config);
      args.push("--config", file);
    }
    const all = {
      PATH: process.env.PATH,
      HOME: place,
      XDG_RUNTIME_DIR: place,
      RUST_BACKTRACE: "1",
      HOST: "127.0.0.1",
      PORT: String(port),
      ADMIN_PORT: "0",
      SHARDS: "2",
      JWT_SECRET: SECRET,
      API_KEYS: `${API_KEY},acme=${ACME_KEY}`,
      // The whole suite can be run with the connections of every tenant spread over the shards: SPREAD='*'.
      TENANTCAST_SERVER__SPREAD: process.env.SPREAD ?? "",
      // And with what is durable in Redis, a prefix for each server: WITH_REDIS=redis://127.0.0.1:6379.
      ...(process.env.WITH_REDIS ? { REDIS_URL: process.env.WITH_REDIS, TENANTCAST_REDIS__PREFIX: `t${process.pid}-${++started}` } : {}),
      ...env,
    };
    for (const name of Object.keys(all)) if (all[name] === null) delete all[name];
    const server = new Server(spawn(BIN, args, { env: all, stdio: ["ignore", "pipe", "pipe"] }), place);
    const ready = new Promise((resolve, reject) => {
      server.stdout.once("line", (line) => {
        const found = /^tenantcast ready on 127\.0\.0\.1:(\d+)$/.exec(line);
        if (found) resolve(Number(found[1]));
        else reject(new Error(`the first line on stdout is not the ready line: ${line}`));
      });
      server.exited.then(({ code, signal }) => reject(new Error(`ended before it was ready: ${code ?? signal}\n${server.errors}`)));
    });
    try {
      server.port = await within(SOON, ready, () => `the ready line; stderr:\n${server.errors}`);
    } catch (error) {
      server.process.kill("SIGKILL");
      throw error;
    }
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  constructor(child, place) {
    this.process = child;
    this.place = place;
    this.lines = [];
    this.errors = "";
    this.stdout = createInterface({ input: child.stdout });
    this.stdout.on("line", (line) => this.lines.push(line));
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text) => (this.errors += text));
    this.exited = new Promise((resolve, reject) => {
      child.once("error", (error) => reject(new Error(`cannot start ${BIN}: ${error.message}`)));
      child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    this.exited.catch(() => {});
  }

  get isRunning() {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** Ends it at once. A server that is not there any more has died of the test, and that is an error. */
  async stop() {
    const ran = this.isRunning;
    if (ran) this.process.kill("SIGKILL");
    await within(SOON, this.exited, "the end of the process");
    rmSync(this.place, { recursive: true, force: true });
    assert.ok(ran || this.mayEnd, `the server ended by itself: ${this.process.exitCode ?? this.process.signalCode}\n${this.errors}`);
    assert.doesNotMatch(this.errors, /panicked/, "the server panicked");
  }

  /** Sends a signal; from now on it may end. */
  signal(name) {
    this.mayEnd = true;
    this.process.kill(name);
  }

  /** The HTTP API of one tenant: status, headers and body (parsed where it is JSON). */
  async api(method, tenant, rest, { body, key = API_KEY, headers = {} } = {}) {
    const init = { method, headers: { ...headers } };
    if (key !== null) init.headers.authorization ??= `Bearer ${key}`;
    if (body !== undefined) {
      init.headers["content-type"] ??= "application/json";
      init.body = typeof body === "string" ? body : JSON.stringify(body);
    }
    return this.fetch(`/api/v1/tenants/${encodeURIComponent(tenant)}/${rest}`, init);
  }

  async fetch(where, init = {}) {
    const response = await within(SOON, fetch(this.url + where, init), `an answer from ${where}`);
    const text = await within(SOON, response.text(), `the body of ${where}`);
    let body = text;
    try {
      body = JSON.parse(text);
    } catch {
      // Not every answer is JSON.
    }
    return { status: response.status, headers: response.headers, body, text };
  }

  /** Publishes and gives the receipts; one event or several. */
  async publish(tenant, events) {
    const { status, body } = await this.api("POST", tenant, "events", { body: events });
    assert.equal(status, 202, JSON.stringify(body));
    return Array.isArray(events) ? body : body[0];
  }
}

// Clients.

/** What came, in the order it came; whoever waits for something is told. */
export class Log {
  constructor() {
    this.entries = [];
    this.waiting = new Set();
  }

  push(entry) {
    this.entries.push(entry);
    for (const wake of this.waiting) wake();
  }

  /** The first entry that fits and was not taken before; waits for it. */
  async take(fits, what, ms = SOON) {
    const find = () => this.entries.find((entry) => !entry.taken && fits(entry));
    let wake;
    const found = new Promise((resolve) => {
      wake = () => {
        const entry = find();
        if (entry) resolve(entry);
      };
      this.waiting.add(wake);
      wake();
    });
    try {
      const entry = await within(ms, found, () => `${what}; came: ${JSON.stringify(this.entries.map(({ name, args }) => [name, ...args])).slice(0, 2000)}`);
      entry.taken = true;
      return entry;
    } finally {
      this.waiting.delete(wake);
    }
  }

  /** Waits until `count` entries fit, and gives all that do. */
  async gather(count, fits, what, ms = SOON) {
    let wake;
    const full = new Promise((resolve) => {
      wake = () => this.entries.filter(fits).length >= count && resolve();
      this.waiting.add(wake);
      wake();
    });
    try {
      await within(ms, full, () => `${count} ${what}, there are ${this.entries.filter(fits).length}`);
      return this.entries.filter(fits);
    } finally {
      this.waiting.delete(wake);
    }
  }
}

/** An official Socket.IO client, whose events are kept from the beginning. */
export class Client {
  constructor(t, url, options = {}) {
    this.log = new Log();
    this.socket = io(url, {
      transports: ["websocket"],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      ...options,
    });
    for (const name of ["connect", "disconnect", "connect_error"]) {
      this.socket.on(name, (...args) => this.log.push({ name: `(${name})`, args }));
    }
    this.socket.onAny((name, ...args) => this.log.push({ name, args }));
    t.after(() => this.socket.disconnect());
  }

  /** Connects as `user` of `tenant` and waits for the welcome, which is then in `welcome`. */
  static async join(t, server, tenant, user, { claims = {}, url = server.url, ...options } = {}) {
    const client = new Client(t, url, { auth: { token: mint(tenant, user, claims) }, ...options });
    client.welcome = await client.next("connected");
    return client;
  }

  /** The first argument of the next event of this name (that fits). */
  async next(name, fits = () => true, ms = SOON) {
    return (await this.log.take((entry) => entry.name === name && fits(...entry.args), `event ${name}`, ms)).args[0];
  }

  /** All arguments of the next event of this name. */
  async nextArgs(name, fits = () => true, ms = SOON) {
    return (await this.log.take((entry) => entry.name === name && fits(...entry.args), `event ${name}`, ms)).args;
  }

  /** All events of this name so far: their arguments. */
  all(name) {
    return this.log.entries.filter((entry) => entry.name === name).map((entry) => entry.args);
  }

  /** Waits for `count` events of this name. */
  async gather(name, count, ms = SOON) {
    return (await this.log.gather(count, (entry) => entry.name === name, `events ${name}`, ms)).map((entry) => entry.args);
  }

  /** Names of everything that came, without what the client itself says. */
  get names() {
    return this.log.entries.map((entry) => entry.name).filter((name) => !name.startsWith("("));
  }

  ask(event, ...args) {
    return within(SOON, this.socket.emitWithAck(event, ...args), `the answer to ${event} ${JSON.stringify(args)}`);
  }

  /** The `connect_error` the server answers. */
  async refusal() {
    return await this.next("(connect_error)");
  }

  /** Waits for the end of the connection: its reason. */
  disconnected(ms = SOON) {
    return this.next("(disconnect)", () => true, ms);
  }
}

/** A client of `/ws`. */
export class Plain {
  constructor(t, server, { token, protocols, headers, query = {}, url = server.url } = {}) {
    this.log = new Log();
    this.acks = new Map();
    this.id = 0;
    const target = new URL("/ws", url.replace(/^http/, "ws"));
    if (token) target.searchParams.set("token", token);
    for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value);
    this.ws = new WebSocket(target, protocols ?? [], { headers });
    this.opened = nodeOnce(this.ws, "open");
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => this.ws.once("close", (code, reason) => resolve({ code, reason: reason.toString() })));
    this.ws.on("error", () => {});
    this.ws.on("message", (data, isBinary) => {
      assert.equal(isBinary, false, "/ws sends text only");
      const frame = JSON.parse(data);
      if (frame.ack !== undefined) {
        this.acks.get(frame.ack)?.(frame.data);
        this.acks.delete(frame.ack);
      } else {
        this.log.push({ name: frame.event, args: [frame.data, frame.meta], frame });
      }
    });
    t.after(() => this.ws.terminate());
  }

  static async join(t, server, tenant, user, { claims = {}, ...options } = {}) {
    const client = new Plain(t, server, { token: mint(tenant, user, claims), ...options });
    client.welcome = await client.next("connected");
    return client;
  }

  send(frame) {
    this.ws.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  async ask(event, data) {
    const id = ++this.id;
    const answer = new Promise((resolve) => this.acks.set(id, resolve));
    this.send({ event, data, id });
    return within(SOON, answer, `the answer to ${event}`);
  }

  async next(name, fits = () => true, ms = SOON) {
    return (await this.log.take((entry) => entry.name === name && fits(...entry.args), `event ${name}`, ms)).args[0];
  }

  async nextArgs(name, fits = () => true, ms = SOON) {
    return (await this.log.take((entry) => entry.name === name && fits(...entry.args), `event ${name}`, ms)).args;
  }

  async gather(name, count, ms = SOON) {
    return (await this.log.gather(count, (entry) => entry.name === name, `events ${name}`, ms)).map((entry) => entry.args);
  }

  all(name) {
    return this.log.entries.filter((entry) => entry.name === name).map((entry) => entry.args);
  }

  /** The close frame: its number and its text, parsed. */
  async close(ms = SOON) {
    const { code, reason } = await within(ms, this.closed, "the close frame");
    return { code, reason: reason ? JSON.parse(reason) : undefined };
  }
}

/** A reader of `/events`. */
export class Events {
  constructor(t, server, { rooms = [], token, headers = {}, query = {} } = {}) {
    this.log = new Log();
    const target = new URL("/events", server.url);
    if (rooms.length) target.searchParams.set("rooms", rooms.join(","));
    for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value);
    if (token) headers = { authorization: `Bearer ${token}`, ...headers };
    this.ended = new Promise((resolve) => {
      this.response = within(
        SOON,
        new Promise((answered, failed) => {
          const request = http.get(target, { headers: { accept: "text/event-stream", ...headers }, agent: false }, (response) => {
            answered(response);
            response.setEncoding("utf8");
            response.on("data", (text) => this.take(text));
            response.on("close", resolve);
            response.on("error", () => {});
          });
          request.on("error", failed);
          t.after(() => request.destroy());
        }),
        "the head of /events",
      );
    });
    this.response.catch(() => {});
    this.text = "";
  }

  /** Splits the stream into its events (HTML standard, section 9.2.6). */
  take(text) {
    this.text += text;
    for (let at; (at = this.text.indexOf("\n\n")) >= 0; this.text = this.text.slice(at + 2)) {
      const event = { id: undefined, event: "message", data: [] };
      for (const line of this.text.slice(0, at).split("\n")) {
        if (line.startsWith(":")) continue;
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") event.data.push(value);
        else event[field] = value;
      }
      if (event.data.length === 0) continue;
      const data = JSON.parse(event.data.join("\n"));
      this.log.push({ name: event.event, args: [data], id: event.id });
    }
  }

  /** The next event of this name: `{name, args: [data], id}`. */
  next(name, fits = () => true, ms = SOON) {
    return this.log.take((entry) => entry.name === name && fits(...entry.args), `event ${name}`, ms);
  }
}

// Lines.

/** A TCP line between a client and the server that can be cut, so that the server sees a broken transport, and frozen, so that it sees nothing. */
export class Line {
  static async to(t, server) {
    const line = new Line();
    line.pairs = new Set();
    line.isOpen = true;
    line.listener = net.createServer({ noDelay: true }, (near) => {
      near.on("error", () => {});
      if (!line.isOpen) return near.resetAndDestroy();
      const far = net.connect({ port: server.port, host: "127.0.0.1", noDelay: true });
      far.on("error", () => {});
      const pair = { near, far };
      line.pairs.add(pair);
      near.pipe(far);
      far.pipe(near);
      for (const [one, other] of [[near, far], [far, near]]) {
        one.on("close", () => {
          other.destroy();
          line.pairs.delete(pair);
        });
      }
    });
    line.listener.listen(0, "127.0.0.1");
    await nodeOnce(line.listener, "listening");
    line.url = `http://127.0.0.1:${line.listener.address().port}`;
    t.after(() => {
      line.cut();
      line.listener.close();
    });
    return line;
  }

  /** Cuts every connection with a reset on both sides, and lets nobody through until `mend`. */
  cut() {
    this.isOpen = false;
    for (const { near, far } of this.pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  mend() {
    this.isOpen = true;
  }
}

/** A port nobody listens on now. */
export async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await nodeOnce(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await nodeOnce(probe, "close");
  return port;
}

// The echo application.

/** `examples/protocol_echo` on a free port. */
export class Echo {
  /** `timeout`: milliseconds a pong may take. */
  static async start(timeout) {
    const echo = new Echo();
    echo.port = await freePort();
    echo.url = `http://127.0.0.1:${echo.port}`;
    echo.process = spawn(ECHO, [String(echo.port), String(timeout)], { stdio: ["ignore", "ignore", "pipe"] });
    echo.errors = "";
    echo.process.stderr.on("data", (text) => (echo.errors += text));
    echo.exited = new Promise((resolve, reject) => {
      echo.process.once("error", (error) => reject(new Error(`cannot start ${ECHO}: ${error.message}`)));
      echo.process.once("exit", resolve);
    });
    echo.exited.catch(() => {});
    const accepts = () =>
      new Promise((resolve) => {
        const socket = net.connect(echo.port, "127.0.0.1");
        socket.once("connect", () => resolve(socket.destroy()));
        socket.once("error", () => resolve(false));
      });
    const ended = echo.exited.then(() => {
      throw new Error(`the echo application ended: ${echo.errors}`);
    });
    await Promise.race([until(accepts, "the echo application's port"), ended]);
    return echo;
  }

  async stop() {
    const ran = this.process.exitCode === null;
    this.process.kill("SIGKILL");
    await this.exited;
    assert.ok(ran, `the echo application ended by itself\n${this.errors}`);
    assert.doesNotMatch(this.errors, /panicked/);
  }
}

/** A raw WebSocket whose messages are read one by one: text as a string, binary as a Buffer. */
export class Wire {
  constructor(t, url, where, options) {
    this.ws = new WebSocket(url.replace(/^http/, "ws") + where, options);
    this.messages = [];
    this.readers = [];
    this.error = new Promise((resolve) => this.ws.once("error", resolve));
    this.closed = new Promise((resolve) => this.ws.once("close", (code, reason) => resolve({ code, reason: reason.toString() })));
    this.ws.on("message", (data, isBinary) => {
      const message = isBinary ? data : data.toString();
      const reader = this.readers.shift();
      if (reader) reader(message);
      else this.messages.push(message);
    });
    t.after(() => this.ws.terminate());
  }

  /** The next message, pings left out unless they are asked for. */
  async next({ pings = false, ms = SOON } = {}) {
    for (;;) {
      const message = this.messages.length ? this.messages.shift() : await within(ms, new Promise((resolve) => this.readers.push(resolve)), "a message");
      if (pings || message !== "2") return message;
      this.ws.send("3");
    }
  }

  send(message) {
    this.ws.send(message);
  }

  /** Waits until it is closed. */
  gone(ms = SOON) {
    return within(ms, this.closed, "the close of the WebSocket");
  }
}
