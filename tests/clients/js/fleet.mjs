// Several nodes on one Redis, a balancer that knows nothing, and a ledger of who published what and who received it.
//
// The ledger's clients behave as a sane application's: who publishes numbers its events and sends one again, with the same id, until it is acked;
// who receives asks for what it missed by the place it reached. What is left to check is the contract: every acked event once, in the order of
// offsets, at every member, or a gap that this member was told of.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { API_KEY, Client, SOON, Server, mint, until, within } from "./harness.mjs";

/** How long a publisher waits for an ack before it sends the event again. */
const ACK_MS = 4_000;
/** How long an event may be sent again before the test has failed. */
const ACKED_WITHIN_MS = 60_000;

/** The pace of a load, and how long a client that was refused rests before it asks again. Nothing is waited for by it. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Nodes on one Redis. */
export class Fleet {
  /** `redis`: anything with `env`. */
  static async start(t, redis, { count = 3, config, env = {} } = {}) {
    const fleet = new Fleet();
    fleet.options = { config, env: { ...redis.env, ...env } };
    fleet.nodes = [];
    t.after(() => Promise.all(fleet.nodes.map((node) => node.stop())));
    const started = await Promise.allSettled(Array.from({ length: count }, () => Server.start(fleet.options)));
    fleet.nodes = started.filter(({ value }) => value).map(({ value }) => value);
    for (const { reason } of started) if (reason) throw reason;
    return fleet;
  }

  get running() {
    return this.nodes.filter((node) => node.isRunning);
  }

  /** kill -9, and its end. */
  async kill(at) {
    this.nodes[at].signal("SIGKILL");
    await within(SOON, this.nodes[at].exited, "the end of a node");
  }

  /** SIGTERM, and its end, which must be a good one. */
  async drain(at, ms = 30_000) {
    this.nodes[at].signal("SIGTERM");
    assert.deepEqual(await within(ms, this.nodes[at].exited, "the end of a drained node"), { code: 0, signal: null });
  }

  /** A new process in place of one that ended, on its port. */
  async revive(at) {
    const old = this.nodes[at];
    await old.stop();
    this.nodes[at] = await Server.start({ ...this.options, port: old.port });
  }

  /** What every running node says of Redis: `ok` or `degraded`. */
  async health() {
    return Promise.all(this.running.map(async (node) => (await node.fetch("/health/websocket")).body.status));
  }

  /** Waits until every running node says so. */
  async becomes(status, ms = SOON) {
    let last = [];
    await until(async () => (last = await this.health()).every((one) => one === status), () => `every node is ${status}: ${last}`, ms, 100);
  }
}

/**
 * A TCP load balancer: each connection to the next node that accepts, with no memory of who was where. Before one Redis, a line that can be cut.
 *
 * Nothing is reset here, only closed: Node 20 spins for ever now and then when both ends of a pair were.
 */
export class Balancer {
  static async over(t, fleet) {
    const balancer = new Balancer(fleet);
    balancer.listener = net.createServer({ noDelay: true }, (near) => balancer.pass(near));
    balancer.listener.listen(0, "127.0.0.1");
    await once(balancer.listener, "listening");
    balancer.port = balancer.listener.address().port;
    balancer.url = `http://127.0.0.1:${balancer.port}`;
    t.after(() => {
      for (const socket of balancer.sockets) socket.destroy();
      balancer.listener.close();
    });
    return balancer;
  }

  constructor(fleet) {
    this.fleet = fleet;
    this.turn = 0;
    this.sockets = new Set();
    this.pairs = new Set();
    /** Nodes that nobody is sent to. */
    this.shunned = new Set();
    /** Where the newest connection went. */
    this.last = undefined;
  }

  /** Ends every client's side; the nodes' side stays open and silent, as where a phone has lost its network. */
  abandon() {
    for (const [near, far] of this.pairs) {
      near.unpipe(far);
      far.unpipe(near);
      far.pause();
      near.removeAllListeners("close");
      far.removeAllListeners("close");
      near.destroy();
    }
    this.pairs.clear();
  }

  /** Cuts every connection, and lets nobody through until `mend`. */
  cut() {
    this.fleet.nodes.forEach((_, at) => this.shunned.add(at));
    for (const [near, far] of this.pairs) {
      near.destroy();
      far.destroy();
    }
  }

  mend() {
    this.shunned.clear();
  }

  /** Passes nothing on, and closes nothing, until `thaw`. */
  freeze() {
    this.frozen = [];
    for (const [near, far] of this.pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  thaw() {
    for (const [near, far] of this.pairs) {
      near.pipe(far);
      far.pipe(near);
    }
    const waiting = this.frozen;
    this.frozen = undefined;
    for (const near of waiting) this.pass(near);
  }

  pass(near, tries = 0) {
    if (this.frozen) return void this.frozen.push(near.pause());
    const nodes = this.fleet.nodes;
    near.on("error", () => {});
    if (tries === nodes.length) return near.destroy();
    const at = this.turn++ % nodes.length;
    if (this.shunned.has(at)) return this.pass(near, tries + 1);
    const far = net.connect({ port: nodes[at].port, host: "127.0.0.1", noDelay: true });
    const next = () => this.pass(near, tries + 1);
    far.once("error", next);
    far.once("connect", () => {
      far.off("error", next);
      this.last = at;
      const pair = [near, far];
      this.pairs.add(pair);
      near.on("close", () => this.pairs.delete(pair));
      for (const [one, other] of [[near, far], [far, near]]) {
        this.sockets.add(one);
        one.on("error", () => {});
        one.pipe(other);
        one.on("close", () => {
          this.sockets.delete(one);
          other.destroy();
        });
      }
      if (near.destroyed) far.destroy();
    });
  }
}

/** A place in a room, as text that can be compared. */
const placeOf = ({ epoch, offset }) => `${epoch}/${offset}`;

/** What was published and what came. */
export class Ledger {
  constructor(t, fleet, tenant) {
    Object.assign(this, { t, fleet, tenant, publishers: [], receivers: [], faults: [] });
    /** Every published event by its id: `{room, receipt}`; by room and place: its id. */
    this.events = new Map();
    this.places = new Map();
    this.began = Date.now();
  }

  fault(text) {
    // A few tell as much as all.
    if (this.faults.length < 20) this.faults.push(`${text} (after ${Date.now() - this.began} ms)`);
  }

  /** One place is one event's, whoever saw it. */
  note(room, at, id) {
    const key = `${room} ${placeOf(at)}`;
    const known = this.places.get(key) ?? id;
    this.places.set(key, known);
    if (known !== id) this.fault(`${key} is the place of ${known} and of ${id}`);
  }

  /** A member of rooms; `url` may be a balancer's. */
  async receive(user, rooms, url, options) {
    const receiver = new Receiver(this, user, rooms, url, options);
    this.receivers.push(receiver);
    await within(SOON, receiver.joined, `${user} is in ${rooms}`);
    return receiver;
  }

  /** Publishes one event every `every` ms: over a socket at `url`, or over HTTP to any node. */
  async publish(name, room, { url, every = 50, options = {} } = {}) {
    let send = (event) => this.post(event);
    if (url) {
      const client = new Client(this.t, url, { auth: { token: mint(this.tenant, name) }, ...options });
      await client.next("connected");
      send = (event) => client.socket.timeout(ACK_MS).emitWithAck("publish", event);
    }
    const publisher = new Publisher(this, name, room, every, send);
    this.publishers.push(publisher);
    publisher.done = publisher.run();
    publisher.done.catch(() => {});
    return publisher;
  }

  /** One request to a running node; another one the next time. */
  async post(event) {
    const nodes = this.fleet.running;
    if (nodes.length === 0) throw new Error("no node is running");
    this.turn = (this.turn ?? 0) + 1;
    const response = await fetch(`${nodes[this.turn % nodes.length].url}/api/v1/tenants/${this.tenant}/events`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${API_KEY}` },
      body: JSON.stringify(event),
      signal: AbortSignal.timeout(ACK_MS),
    });
    const body = await response.json();
    return response.status === 202 ? { ok: true, ...body[0] } : { ok: false, ...body };
  }

  /** How many events have been acked. */
  get acked() {
    return this.publishers.reduce((sum, { acked }) => sum + acked, 0);
  }

  /** Waits until `count` more events have been acked. */
  async grown(count, ms = 30_000) {
    const from = this.acked;
    await until(() => this.acked >= from + count, () => `${count} more events are acked, ${this.acked - from} were; ${this.refusals}`, ms);
  }

  /** Waits until every receiver has got something after now: the stream flows again. */
  async flows(ms = 30_000) {
    const from = this.receivers.map(({ count }) => count);
    const late = () => this.receivers.filter(({ count }, at) => count <= from[at]).map(({ user }) => user);
    await until(() => late().length === 0, () => `every member gets events: ${late()}`, ms);
  }

  get refusals() {
    const all = {};
    for (const { refusals } of this.publishers) for (const [code, count] of Object.entries(refusals)) all[code] = (all[code] ?? 0) + count;
    return JSON.stringify(all);
  }

  /** Ends all publishers, each after its last ack, and waits until every member has reached the end of its rooms. */
  async settle(ms = 30_000) {
    for (const publisher of this.publishers) publisher.isOver = true;
    await within(ACKED_WITHIN_MS, Promise.all(this.publishers.map(({ done }) => done)), () => `the last acks; ${this.refusals}`);
    const heads = new Map();
    for (const room of new Set(this.receivers.flatMap(({ rooms }) => [...rooms.keys()]))) {
      const publisher = new Publisher(this, `end-${room}`, room, 0, (event) => this.post(event));
      this.publishers.push(publisher);
      heads.set(room, await publisher.once());
    }
    const behind = () => {
      const all = [];
      for (const { user, rooms } of this.receivers) {
        for (const [room, { epoch, offset }] of rooms) {
          const head = heads.get(room);
          if (epoch !== head.epoch || offset < head.offset) all.push(`${user} in ${room}: ${epoch}/${offset} of ${placeOf(head)}`);
        }
      }
      return all;
    };
    await until(() => behind().length === 0, () => `every member is at the end: ${this.summary}\n${behind().join("\n")}\n${this.faults.join("\n")}`, ms);
  }

  /** Checks everything; says the numbers, gives them back. `gaps`: whether the contract allows one here. */
  check({ gaps: allowed = false } = {}) {
    let [expected, received, missed, again] = [0, 0, 0, 0];
    for (const receiver of this.receivers) {
      received += receiver.seen.size;
      again += receiver.again;
      for (const [id, { room, receipt }] of this.events) {
        const start = receiver.rooms.get(room)?.start;
        if (!start || !receipt || (receipt.epoch === start.epoch && receipt.offset < start.offset)) continue;
        expected++;
        if (receiver.seen.has(id)) continue;
        missed++;
        if (!receiver.isTold(room, receipt)) this.fault(`${receiver.user} never got ${id} at ${room} ${placeOf(receipt)}, and was told of no gap there`);
      }
    }
    const gaps = this.receivers.reduce((sum, { gaps }) => sum + gaps.length, 0);
    const recovered = this.receivers.reduce((sum, { recovered }) => sum + recovered, 0);
    const resumed = this.receivers.reduce((sum, { resumed }) => sum + resumed, 0);
    const forgotten = this.receivers.reduce((sum, { forgotten }) => sum + forgotten, 0);
    if (forgotten) this.fault(`${forgotten} joins were forgotten by a recovery`);
    const sum = (what) => this.publishers.reduce((all, publisher) => all + publisher[what], 0);
    const numbers = { published: sum("acked"), expected, received, missed, again, gaps, retries: sum("retries"), recovered, resumed };
    this.t.diagnostic(
      `published ${numbers.published} (sent again ${numbers.retries}, refused ${this.refusals}), received ${received} of ${expected} by ${this.receivers.length} members, ` +
        `gaps told ${gaps} (missed in them ${missed}, again after them ${again}), came back by Socket.IO's recovery ${recovered}, by \`since\` ${resumed}${forgotten ? `, joins forgotten ${forgotten}` : ""}`,
    );
    assert.deepEqual(this.faults, []);
    const reasons = this.receivers.flatMap(({ user, gaps }) => gaps.map(({ room, reason }) => `${user} ${room} ${reason}`));
    if (!allowed) assert.deepEqual(reasons, [], "no gap is allowed here");
    assert.ok(numbers.published > 0 && received > 0);
    return numbers;
  }

  get summary() {
    return `published ${this.acked}, received ${this.receivers.map(({ seen }) => seen.size)}`;
  }
}

/** Sends numbered events one after the other, each until it is acked. */
class Publisher {
  constructor(ledger, name, room, every, send) {
    Object.assign(this, { ledger, name, room, every, send, number: 0, acked: 0, retries: 0, refusals: {}, isOver: false });
  }

  async run() {
    let due = Date.now();
    while (!this.isOver) {
      await this.once();
      // Who was held up does not catch up: the load is to be the same afterwards.
      due = Math.max(due + this.every, Date.now());
      await pause(due - Date.now());
    }
  }

  /** One event; its receipt. */
  async once() {
    const { ledger, name, room } = this;
    const id = `${name}-${++this.number}`;
    const entry = { room, receipt: undefined };
    ledger.events.set(id, entry);
    const event = { id, room, type: "n", data: { tenant: ledger.tenant, id } };
    const end = Date.now() + ACKED_WITHIN_MS;
    for (let tries = 0; ; tries++) {
      let answer;
      try {
        answer = await this.send(event);
      } catch (error) {
        answer = { ok: false, code: error.name === "TimeoutError" || /timed out/.test(error.message) ? "no_ack" : "disconnected" };
      }
      if (answer.ok) {
        if (answer.id !== id) ledger.fault(`${id} was acked as ${answer.id}`);
        ledger.note(room, answer, id);
        if (this.last?.epoch === answer.epoch && this.last.offset >= answer.offset) ledger.fault(`${id} at ${placeOf(answer)} is not after ${placeOf(this.last)}`);
        this.last = answer;
        this.acked++;
        entry.receipt = { epoch: answer.epoch, offset: answer.offset };
        return entry.receipt;
      }
      this.retries++;
      this.refusals[answer.code] = (this.refusals[answer.code] ?? 0) + 1;
      if (Date.now() > end) {
        ledger.fault(`${id} was not acked in ${ACKED_WITHIN_MS} ms: ${answer.code} ${answer.message}`);
        throw new Error(ledger.faults.at(-1));
      }
      await pause(50 + Math.random() * 100);
    }
  }
}

/** A member of rooms that knows the place it reached in each. */
export class Receiver {
  constructor(ledger, user, rooms, url, options) {
    Object.assign(this, { ledger, user, life: 0, count: 0, again: 0, recovered: 0, resumed: 0, forgotten: 0, seen: new Set(), gaps: [] });
    /** The place reached; `isOpen` where a gap was told and its end is not known; `start`: the first event that is to come. */
    this.rooms = new Map(rooms.map((room) => [room, { epoch: undefined, offset: 0, isOpen: false }]));
    /** Rooms of which it is not known whether the server has us in them. */
    this.unsure = new Set(rooms);
    this.client = new Client(ledger.t, url, { auth: { token: mint(ledger.tenant, user) }, ...options });
    const { socket } = this.client;
    socket.on("n", (data, meta) => this.take(data, meta));
    socket.on("gap", (gap) => this.hearGap(gap));
    this.joined = new Promise((resolve) => {
      socket.on("disconnect", () => this.life++);
      socket.on("connected", async ({ recovered, rooms }) => {
        const life = ++this.life;
        if (recovered !== socket.recovered) ledger.fault(`${user}: the welcome says recovered ${recovered}, the client ${socket.recovered}`);
        if (recovered) {
          this.recovered++;
          // A join that was answered and then lost with its node.
          for (const room of this.rooms.keys()) {
            if (rooms.includes(room) || this.unsure.has(room)) continue;
            this.unsure.add(room);
            this.forgotten++;
          }
        }
        else this.rooms.forEach((_, room) => this.unsure.add(room));
        for (const room of [...this.unsure]) if (!(await this.enter(room, recovered, life))) return;
        resolve();
      });
    });
  }

  /** Joins a room from the place reached; false where the connection is gone meanwhile: the next one begins anew. */
  async enter(room, mayBeThere, life) {
    const { socket } = this.client;
    const place = this.rooms.get(room);
    while (this.life === life) {
      try {
        // In a room already, what comes while we ask would come twice.
        if (mayBeThere) await socket.timeout(ACK_MS).emitWithAck("unsubscribe", { rooms: [room] });
        Object.assign(place, { isBlind: false, asked: this.life });
        const since = place.epoch === undefined ? undefined : { epoch: place.epoch, offset: place.offset };
        const isIn = await new Promise((resolve, reject) => {
          // In the callback, not behind an `await`: events that came with the answer in one piece are taken before a promise goes on.
          socket.timeout(ACK_MS).emit("subscribe", { rooms: [room], since }, (error, answer) => {
            if (error) return reject(error);
            // Away is not lost: it asks again, and what comes until then will come again.
            place.isBlind = answer.reason === "backplane_unavailable" || answer.denied?.some(({ code }) => code === "backplane_unavailable");
            const isIn = answer.ok && !place.isBlind && this.life === life;
            if (isIn && since) this.resumed++;
            if (isIn) this.arrive(room, since !== undefined, answer);
            resolve(isIn);
          });
        });
        if (isIn) return true;
      } catch {
        // No answer in time, or the connection has ended.
      }
      mayBeThere = true;
      await pause(100);
    }
    return false;
  }

  /** The answer to `subscribe`: what was missed has come before it, or it says that there is a gap. */
  arrive(room, isBack, answer) {
    const place = this.rooms.get(room);
    const there = { epoch: answer.epoch, offset: answer.offset };
    this.unsure.delete(room);
    if (!isBack) {
      // An event may come before the answer, and where Redis is away the answer knows no place: then the first event does.
      if (place.epoch === undefined && there.epoch !== undefined) Object.assign(place, there);
    } else if (!answer.recovered) {
      this.gap(room, answer.reason, there);
      Object.assign(place, there, { isOpen: false });
    } else if (place.epoch !== there.epoch || place.offset < there.offset) {
      this.ledger.fault(`${this.user}: all it missed in ${room} until ${placeOf(there)} is said to have come, and it is at ${placeOf(place)}`);
    }
    if (place.epoch !== undefined) place.start ??= { epoch: place.epoch, offset: place.first ?? place.offset + 1 };
  }

  take(data, meta) {
    const { ledger, user } = this;
    const { room, id } = meta;
    const place = this.rooms.get(room);
    this.count++;
    if (data.tenant !== ledger.tenant || data.id !== id || !ledger.events.has(id)) return ledger.fault(`${user} got what nobody sent: ${JSON.stringify([data, meta])}`);
    if (!place) return ledger.fault(`${user} got ${id} of ${room}, where it is not`);
    ledger.note(room, meta, id);
    // A join that ended with its line, unanswered, may have been done: what came before it then is asked for again.
    if (place.isBlind || (this.unsure.has(room) && place.asked !== this.life)) return;
    if (place.epoch === undefined) {
      place.first = meta.offset;
      place.start ??= { epoch: meta.epoch, offset: meta.offset };
      Object.assign(place, { epoch: meta.epoch, offset: meta.offset - 1 });
    }
    const at = `${user}: ${id} at ${room} ${placeOf(meta)} after ${placeOf(place)}`;
    const isSameEpoch = meta.epoch === place.epoch;
    if (place.isOpen) {
      if (isSameEpoch && meta.offset <= place.offset) ledger.fault(`${at}: back behind a gap`);
      const gap = this.gaps.findLast((gap) => gap.room === room);
      gap.to = { epoch: meta.epoch, offset: meta.offset };
    } else if (!isSameEpoch) {
      ledger.fault(`${at}: another epoch, untold`);
    } else if (meta.offset !== place.offset + 1) {
      ledger.fault(`${at}: ${meta.offset > place.offset ? "a hole" : "twice or out of order"}`);
    }
    // A store that lost its data has lost the ids too: an event that was not acked before may come again after it.
    if (this.seen.has(id)) this.gaps.some((gap) => gap.room === room) ? this.again++ : ledger.fault(`${at}: twice`);
    this.seen.add(id);
    Object.assign(place, { epoch: meta.epoch, offset: meta.offset, isOpen: false });
  }

  /** `gap {reason, epoch, room?}` on the socket: of one room, or of all. */
  hearGap({ reason, room }) {
    for (const [name, place] of this.rooms) {
      // Of all: where we are not yet, we ask from the place we know.
      if (room === undefined ? this.unsure.has(name) : room !== name) continue;
      this.gap(name, reason);
      place.isOpen = true;
    }
  }

  gap(room, reason, to) {
    const { epoch, offset } = this.rooms.get(room);
    this.gaps.push({ room, reason: reason ?? "(no reason)", from: { epoch, offset }, to: to && { epoch: to.epoch, offset: to.offset + 1 } });
  }

  /** Whether a gap was told that has this place in it. */
  isTold(room, { epoch, offset }) {
    return this.gaps.some(({ room: where, from, to }) => {
      if (where !== room) return false;
      if (epoch === from.epoch && offset <= from.offset) return false;
      return to === undefined || epoch !== to.epoch || offset < to.offset;
    });
  }
}
