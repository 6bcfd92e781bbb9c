// The peer `uwebsockets`: raw WebSocket rooms on uWebSockets' own topics, as its documentation has them; no authentication, no JSON.
//
//   join <room>         -> joined             pub <room> <data>   -> <data> to every member of the room, the publisher included
//   echo <data>         -> <data>             anything else closes the connection
//
// usage: server PORT (0: any). Prints `listening PORT PID` once it accepts.

#include "App.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <unistd.h>

struct Nothing {};

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    uWS::App app;
    app.ws<Nothing>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 1'000'000,
        .idleTimeout = 120,
        // A slow reader is held to what tenantcast's outbox holds.
        .maxBackpressure = 1'048'576,
        .message = [&app](auto *ws, std::string_view message, uWS::OpCode) {
            size_t space = message.find(' ');
            std::string_view verb = message.substr(0, space);
            std::string_view rest = space == std::string_view::npos ? std::string_view() : message.substr(space + 1);
            if (verb == "echo") {
                ws->send(rest, uWS::OpCode::TEXT);
            } else if (verb == "pub") {
                size_t end = rest.find(' ');
                if (end == std::string_view::npos) {
                    ws->end(1003, "pub <room> <data>");
                } else {
                    // Of the app, not of the socket: a socket's own publish leaves the publisher out.
                    app.publish(rest.substr(0, end), rest.substr(end + 1), uWS::OpCode::TEXT, false);
                }
            } else if (verb == "join" && !rest.empty()) {
                ws->subscribe(rest);
                ws->send("joined", uWS::OpCode::TEXT);
            } else {
                ws->end(1003, "join, pub or echo");
            }
        },
    });
    app.listen("127.0.0.1", std::atoi(argv[1]), [](us_listen_socket_t *listening) {
        if (!listening) {
            std::fprintf(stderr, "uwebsockets: cannot listen\n");
            std::exit(1);
        }
        std::printf("listening %d %d\n", us_socket_local_port(0, (us_socket_t *)listening), (int)getpid());
        std::fflush(stdout);
    });
    app.run();
}
