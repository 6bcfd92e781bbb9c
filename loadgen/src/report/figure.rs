//! The figures of a report by which servers are compared: one name and one number each, and which way is better.

use serde::Serialize;

use super::Report;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub value: f64,
    pub more_is_better: bool,
}

/// Those the run has measured.
pub fn figures(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut put = |name, unit, value: Option<f64>, more_is_better| {
        figures.extend(value.filter(|value| value.is_finite()).map(|value| Figure {
            name,
            unit,
            value,
            more_is_better,
        }));
    };
    let ms = |us: u64| us as f64 / 1000.0;
    let server = report.server.as_ref();
    if let Some(publishing) = &report.publishing {
        put("deliveries a second", "", Some(publishing.deliveries_per_second), true);
        put("deliveries a CPU second", "", server.and_then(|server| server.deliveries_per_cpu_second), true);
        put("delivery p50", "ms", Some(ms(publishing.delivery.p50)), false);
        put("delivery p99", "ms", Some(ms(publishing.delivery.p99)), false);
        put("delivery p99.9", "ms", Some(ms(publishing.delivery.p999)), false);
        put("last delivery p50", "ms", publishing.last.map(|last| ms(last.p50)), false);
        put("last delivery p99", "ms", publishing.last.map(|last| ms(last.p99)), false);
    }
    if let Some(requests) = &report.requests {
        put("requests a second", "", Some(requests.per_second), true);
        put("requests a CPU second", "", server.and_then(|server| server.requests_per_cpu_second), true);
        put("request p50", "ms", Some(ms(requests.latency.p50)), false);
        put("request p99", "ms", Some(ms(requests.latency.p99)), false);
    }
    put("connections opened a second", "", Some(report.connections.per_second), true);
    put("connect p99", "ms", Some(ms(report.connections.latency.p99)), false);
    if report.connections.came_back > 0 {
        put("reconnect p99", "ms", Some(ms(report.connections.reconnect.p99)), false);
    }
    put("CPU a reconnect", "us", server.and_then(|server| server.cpu_us_per_reconnect), false);
    put("CPU a connection opened", "us", server.map(|server| server.cpu_us_per_connection), false);
    put("memory an idle connection", "bytes", server.map(|server| server.rss_per_connection_bytes as f64), false);
    put("server CPU", "% of a core", server.map(|server| server.cpu_share * 100.0), false);
    figures
}
