// The peer `socket.io`: the Node server as its documentation has it, over WebSocket only; with REDIS_URL one of several, on @socket.io/redis-adapter.
//
// `join` room, acked · `publish` {room, data}: `event` data to everyone in the room, the publisher included · `echo` data: acked with it.
// The token in `auth` is taken and not looked at.
//
// usage: node server.mjs PORT (0: any). Prints `listening PORT PID` once it accepts.
import { createServer } from "node:http";
import { Server } from "socket.io";

const port = Number(process.argv[2]);
if (process.argv.length !== 3 || !Number.isInteger(port)) {
  console.error("usage: node server.mjs PORT");
  process.exit(2);
}
const http = createServer();
const options = { transports: ["websocket"], serveClient: false };
if (process.env.REDIS_URL) {
  const { createAdapter } = await import("@socket.io/redis-adapter");
  const { createClient } = await import("redis");
  const [pub, sub] = [createClient({ url: process.env.REDIS_URL }), createClient({ url: process.env.REDIS_URL })];
  await Promise.all([pub.connect(), sub.connect()]);
  options.adapter = createAdapter(pub, sub);
}
const io = new Server(http, options);

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack("joined");
  });
  socket.on("publish", ({ room, data }) => io.to(room).emit("event", data));
  socket.on("echo", (data, ack) => ack(data));
});

// Node asks the system for a queue of 511; the others have more.
http.listen({ port, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening ${http.address().port} ${process.pid}`);
});
