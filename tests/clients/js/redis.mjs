// Redis as real processes of the test's own: one, a Cluster of six, or a master with a replica and three Sentinels.
//
// Every process listens on a free port of loopback, keeps its data under target/tmp, and is ended by its own pid, whatever becomes of the test.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { SOON, until, within } from "./harness.mjs";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const PLACES = path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target", "tmp");
/** Valkey's works as well. */
const BIN = process.env.REDIS_SERVER ?? "redis-server";
export const MASTER = "tenantcast";

// What is still running when this process ends ends with it.
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A port nobody listens on, nor on the one 10,000 above it, which is a Cluster's. */
async function clusterPort() {
  const isFree = (port) =>
    new Promise((resolve) => {
      const probe = net.createServer();
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
  for (let tries = 0; tries < 100; tries++) {
    // Below the ports that the system gives to clients.
    const port = 11_000 + Math.floor(Math.random() * 10_000);
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
  throw new Error("no free port for Redis");
}

/** A connection that speaks RESP2: `await connection.ask("GET", "x")`. */
class Connection {
  constructor(port) {
    this.waiting = [];
    this.left = Buffer.alloc(0);
    this.socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    this.socket.on("data", (bytes) => {
      this.left = Buffer.concat([this.left, bytes]);
      for (let answer; (answer = this.read(0)); this.left = this.left.subarray(answer.end)) {
        const { resolve, reject } = this.waiting.shift();
        if (answer.value instanceof Error) reject(answer.value);
        else resolve(answer.value);
      }
    });
    const fail = (error) => {
      this.isBroken = true;
      for (const { reject } of this.waiting.splice(0)) reject(error ?? new Error("Redis closed the connection"));
    };
    this.socket.on("error", fail);
    this.socket.on("close", () => fail());
  }

  ask(...words) {
    const parts = words.map((word) => Buffer.from(String(word)));
    const bytes = parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")]);
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...bytes]));
    });
  }

  /** The value at `at` and where it ends; nothing while it is not whole. */
  read(at) {
    const line = this.left.indexOf("\r\n", at);
    if (line < 0) return;
    const text = this.left.toString("utf8", at + 1, line);
    const end = line + 2;
    switch (String.fromCharCode(this.left[at])) {
      case "+": return { value: text, end };
      case "-": return { value: new Error(text), end };
      case ":": return { value: Number(text), end };
      case "$": {
        const length = Number(text);
        if (length < 0) return { value: null, end };
        if (this.left.length < end + length + 2) return;
        return { value: this.left.toString("utf8", end, end + length), end: end + length + 2 };
      }
      case "*": {
        const value = [];
        let next = end;
        for (let n = 0; n < Number(text); n++) {
          const item = this.read(next);
          if (!item) return;
          value.push(item.value);
          next = item.end;
        }
        return { value, end: next };
      }
      default: throw new Error(`not RESP: ${text}`);
    }
  }
}

/** One redis-server process. */
export class Redis {
  /**
   * Starts one. `keeps`: "nothing", "all" (every write is on disk before it is answered), "snapshots" (what SAVE wrote).
   * `options`: further lines of its configuration.
   */
  static async start(t, { keeps = "nothing", port, options = [], isSentinel = false } = {}) {
    const redis = new Redis(port ?? (await clusterPort()), isSentinel);
    redis.keeps = keeps;
    redis.options = options;
    t.after(() => redis.stop());
    await redis.begin();
    return redis;
  }

  constructor(port, isSentinel) {
    mkdirSync(PLACES, { recursive: true });
    this.place = mkdtempSync(path.join(PLACES, "redis-"));
    this.port = port;
    this.address = `127.0.0.1:${port}`;
    this.url = `redis://${this.address}`;
    this.isSentinel = isSentinel;
    this.log = [];
  }

  /** Starts the process, with the data there is, and waits until it accepts. */
  async begin() {
    const file = path.join(this.place, "redis.conf");
    const lines = [`port ${this.port}`, "bind 127.0.0.1", `dir ${this.place}`, "daemonize no", 'logfile ""'];
    if (this.isSentinel) lines.push("protected-mode no");
    else lines.push('save ""', `appendonly ${this.keeps === "all" ? "yes" : "no"}`, "appendfsync always", "repl-diskless-sync-delay 0");
    // A Sentinel, and who follows one, writes its own configuration.
    if (!this.hasBegun) writeFileSync(file, [...lines, ...this.options, ""].join("\n"));
    this.hasBegun = true;
    const args = this.isSentinel ? [file, "--sentinel"] : [file];
    const child = spawn(BIN, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.process = child;
    running.add(child);
    this.exited = new Promise((resolve, reject) => {
      child.once("error", (error) => reject(new Error(`cannot start ${BIN} (package redis-server): ${error.message}`)));
      child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    this.exited.catch(() => {}).finally(() => running.delete(child));
    const accepts = new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          this.log.push(line);
          if (/Ready to accept connections|Sentinel ID is|\+monitor master/i.test(line)) resolve();
        });
      }
      this.exited.then(({ code }) => reject(new Error(`${BIN} ended: ${code}\n${this.log.join("\n")}`)), reject);
    });
    await within(SOON, accepts, () => `Redis on ${this.address}:\n${this.log.join("\n")}`);
  }

  get isRunning() {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** What a node is told to find it. */
  get env() {
    return { REDIS_URL: this.url };
  }

  async ask(...words) {
    if (!this.connection || this.connection.isBroken) this.connection = new Connection(this.port);
    return within(SOON, this.connection.ask(...words), () => `an answer to ${words.join(" ").slice(0, 80)} from ${this.address}`);
  }

  /** A field of INFO. */
  async fact(section, name) {
    const text = await this.ask("INFO", section);
    return text.split("\r\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1);
  }

  /** kill -9, and its end. */
  async kill() {
    this.process.kill("SIGKILL");
    await within(SOON, this.exited, "the end of Redis");
  }

  /** It answers nothing, and its connections stay open. */
  freeze() {
    this.process.kill("SIGSTOP");
  }

  thaw() {
    this.process.kill("SIGCONT");
  }

  /** Ends it and takes its data away; again is nothing. */
  async stop() {
    this.connection?.socket.destroy();
    if (this.isRunning) await this.kill();
    rmSync(this.place, { recursive: true, force: true });
  }

  /** How many nodes hear a tenant: its channel's subscribers. */
  async hearing(tenant, prefix = "tc") {
    const channel = `${prefix}:{${tenant}}`;
    const [, classic] = await this.ask("PUBSUB", "NUMSUB", channel);
    const [, sharded] = await this.ask("PUBSUB", "SHARDNUMSUB", channel).catch(() => [channel, 0]);
    return classic + sharded;
  }
}

/** Three masters, each with a replica. */
export class Cluster {
  static async start(t) {
    const options = ["cluster-enabled yes", "cluster-node-timeout 1500", "cluster-config-file nodes.conf"];
    const cluster = new Cluster();
    cluster.members = await Promise.all(Array.from({ length: 6 }, () => Redis.start(t, { options })));
    const [first] = cluster.members;
    const [masters, replicas] = [cluster.members.slice(0, 3), cluster.members.slice(3)];
    await Promise.all(masters.map(async (master, at) => {
      await master.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1);
      const [from, to] = [at, at + 1].map((part) => Math.floor((16_384 * part) / 3));
      await master.ask("CLUSTER", "ADDSLOTS", ...Array.from({ length: to - from }, (_, n) => from + n));
    }));
    for (const other of cluster.members.slice(1)) await first.ask("CLUSTER", "MEET", "127.0.0.1", other.port);
    const knowsAll = async (member) => {
      const nodes = (await member.ask("CLUSTER", "NODES")).trim().split("\n");
      return nodes.length === 6 && nodes.every((line) => !/handshake|fail|noaddr/.test(line));
    };
    for (const member of cluster.members) await until(() => knowsAll(member), "every node of the Cluster knows the others", 20_000);
    for (const [at, replica] of replicas.entries()) await replica.ask("CLUSTER", "REPLICATE", await masters[at].ask("CLUSTER", "MYID"));
    for (const replica of replicas) {
      await until(async () => (await replica.fact("replication", "master_link_status")) === "up", "a replica has its master's data", 20_000);
    }
    for (const member of cluster.members) await cluster.isWhole(member);
    return cluster;
  }

  isWhole(member) {
    return until(async () => (await member.ask("CLUSTER", "INFO")).includes("cluster_state:ok"), "the Cluster is whole", 20_000);
  }

  get env() {
    return { REDIS_URL: this.members[0].url, TENANTCAST_REDIS__NODES: this.members.map(({ address }) => address).join(",") };
  }

  /** The master that has a tenant's slot, as the members that run say. */
  async masterOf(tenant) {
    const asked = this.members.find((member) => member.isRunning);
    const slot = await asked.ask("CLUSTER", "KEYSLOT", `{${tenant}}`);
    const ranges = await asked.ask("CLUSTER", "SLOTS");
    const [, , [, port]] = ranges.find(([from, to]) => from <= slot && slot <= to);
    return this.members.find((member) => member.port === port);
  }

  /** Kills the master of a tenant; the one that follows it. */
  async failOver(tenant) {
    const old = await this.masterOf(tenant);
    await old.kill();
    const next = await until(async () => {
      const found = await this.masterOf(tenant);
      return found !== old && found;
    }, "a replica takes the slot over", 30_000);
    await this.isWhole(next);
    return { old, next };
  }
}

/** A master and a replica under three Sentinels. */
export class Sentinels {
  static async start(t) {
    const set = new Sentinels();
    const master = await Redis.start(t);
    const replica = await Redis.start(t, { options: [`replicaof 127.0.0.1 ${master.port}`] });
    set.members = [master, replica];
    await until(async () => (await replica.fact("replication", "master_link_status")) === "up", "the replica has its master's data", 20_000);
    const options = [
      `sentinel monitor ${MASTER} 127.0.0.1 ${master.port} 2`,
      `sentinel down-after-milliseconds ${MASTER} 1000`,
      `sentinel failover-timeout ${MASTER} 6000`,
    ];
    set.sentinels = await Promise.all(Array.from({ length: 3 }, () => Redis.start(t, { options, isSentinel: true })));
    const knowsAll = async (sentinel) => {
      const [others, replicas] = [await sentinel.ask("SENTINEL", "SENTINELS", MASTER), await sentinel.ask("SENTINEL", "REPLICAS", MASTER)];
      return others.length === 2 && replicas.length === 1;
    };
    for (const sentinel of set.sentinels) await until(() => knowsAll(sentinel), "every Sentinel knows the others", 20_000);
    return set;
  }

  get env() {
    return { TENANTCAST_REDIS__SENTINELS: this.sentinels.map(({ address }) => address).join(","), TENANTCAST_REDIS__MASTER: MASTER };
  }

  async master() {
    const [, port] = await this.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER);
    return this.members.find((member) => member.port === Number(port));
  }

  async failOver() {
    const old = await this.master();
    await old.kill();
    const next = await until(async () => {
      const found = await this.master();
      return found !== old && found;
    }, "the Sentinels name another master", 30_000);
    await until(async () => (await next.fact("replication", "role")) === "master", "it is the master");
    return { old, next };
  }
}
