//! What the data plane answers by itself: health, metrics, the demo page. Everything comes from the bridge's gauges, so any shard can answer.

use super::{
    Settings,
    conn::World,
    count::{self, Count},
    route::Health,
};
use crate::shard::count::Counts;
use crate::wire::http::Response;
use std::{borrow::Cow, fmt::Write};

/// `/health` and below it (contract section 2). Only `ready` fails while the server drains: a load balancer sends nobody new, and who is
/// here is still served.
pub fn health(kind: Health, world: &World) -> Response {
    let draining = world.draining;
    // Without Redis there is nothing to say of it; away, the node serves what it can alone, and is not to be taken out of service for it.
    let redis_up = world.bridge.backplane.as_ref().map(|lane| lane.is_up());
    let status = match redis_up {
        _ if draining => "draining",
        Some(false) => "degraded",
        _ => "ok",
    };
    let redis = match redis_up {
        Some(true) => ",\"redis\":{\"status\":\"up\"}",
        Some(false) => ",\"redis\":{\"status\":\"away\"}",
        None => "",
    };
    let mut response = match kind {
        Health::Live => json(200, "{\"status\":\"ok\"}".into()),
        Health::Ready => json(if draining { 503 } else { 200 }, format!("{{\"status\":\"{status}\"{redis}}}")),
        Health::Process => json(
            200,
            format!(
                "{{\"status\":\"{status}\",\"service\":\"tenantcast\",\"version\":\"{}\"{redis}}}",
                env!("CARGO_PKG_VERSION")
            ),
        ),
        Health::WebSocket => {
            let gauges = &world.bridge.gauges;
            json(
                200,
                format!(
                    "{{\"status\":\"{status}\",\"service\":\"websocket\",\"connectedClients\":{},\"connections\":{},\"shards\":{}{redis}}}",
                    gauges.sum(Counts::SESSIONS),
                    gauges.sum(count::in_row(Count::Connections)),
                    world.bridge.shards(),
                ),
            )
        }
    };
    response.no_store = true;
    response
}

/// Prometheus' text format, version 0.0.4. With an API key for every tenant only: the numbers are those of all tenants.
pub fn metrics(bearer: Option<&str>, world: &World) -> Response {
    if !bearer.is_some_and(|bearer| world.settings.access.api_keys.opens_all(bearer)) {
        let mut response = Response::error_json(401, "unauthorized", "an API key for every tenant is needed");
        response.extra.push(("WWW-Authenticate", "Bearer".into()));
        return response;
    }
    let mut text = String::with_capacity(16 * 1024);
    let mut last = "";
    for (index, (name, label)) in count::names().enumerate() {
        if name != last {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# TYPE tenantcast_{name} {kind}");
            last = name;
        }
        for shard in world.bridge.gauges.shards() {
            let code = label.map_or(String::new(), |code| format!(",code=\"{code}\""));
            let number = world.bridge.gauges.get(shard, index);
            let _ = writeln!(text, "tenantcast_{name}{{shard=\"{}\"{code}}} {number}", shard.0);
        }
    }
    let control = world.bridge.control.iter().flat_map(|errands| errands.counts());
    let backplane = world.bridge.backplane.iter().flat_map(|errands| errands.counts());
    for (name, number) in control.chain(backplane) {
        let _ = writeln!(text, "# TYPE tenantcast_{name} counter\ntenantcast_{name} {number}");
    }
    Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
}

pub fn demo(settings: &Settings) -> Response {
    match &settings.demo {
        Some(page) => Response::html(200, Cow::Owned(String::from_utf8_lossy(page).into_owned())),
        None => not_found(),
    }
}

pub fn not_found() -> Response {
    Response::error_json(404, "not_found", "there is nothing at this path")
}

/// The mesh or the process cannot take it now.
pub fn unavailable() -> Response {
    Response { retry_after_s: Some(1), ..Response::error_json(503, "unavailable", "try again in a second") }
}

fn json(status: u16, body: String) -> Response {
    Response::json(status, body.into_bytes())
}
