//! What is measured: loadgen's scenarios, and the rows of the table that are read from their reports.

use crate::server::Contender;

/// One run of loadgen gives the figures of one or more rows.
pub struct Scenario {
    pub name: &'static str,
    /// loadgen's name of it.
    pub file: &'static str,
    /// What is set beyond the file: phases short enough for rounds of all servers.
    pub settings: &'static [&'static str],
    /// With --quick.
    pub quick: &'static [&'static str],
    /// Events to rooms: how they are kept makes a difference.
    pub publishes: bool,
    /// How many nodes serve it as one, on a Redis if they are several: half of each room at each, publishers at the first.
    pub nodes: usize,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fan-out-small",
        file: "fan-out-small",
        // One stall of 100 ms of the machine is the p99 of ten seconds.
        settings: &["phases.measure=25"],
        quick: &["phases.measure=4"],
        publishes: true,
        nodes: 1,
    },
    // Where a core cannot send 100,000 small frames a second, all servers need all of it and their figures meet: at half of it they do not.
    Scenario {
        name: "fan-out-half",
        file: "fan-out-small",
        settings: &["phases.measure=8", "publish.rate=500"],
        quick: &["phases.measure=4", "publish.rate=500"],
        publishes: true,
        nodes: 1,
    },
    Scenario {
        name: "saturate",
        file: "saturate",
        settings: &["phases.measure=6"],
        quick: &["phases.measure=3"],
        publishes: true,
        nodes: 1,
    },
    Scenario {
        name: "fan-out-large",
        file: "fan-out-large",
        settings: &["phases.measure=10"],
        quick: &["phases.measure=4"],
        publishes: true,
        nodes: 1,
    },
    Scenario {
        name: "chat",
        file: "chat",
        settings: &["phases.measure=6"],
        quick: &["phases.measure=4"],
        publishes: false,
        nodes: 1,
    },
    Scenario { name: "connect-storm", file: "connect-storm", settings: &[], quick: &[], publishes: false, nodes: 1 },
    // Long enough for a heartbeat of everyone: they come every 25 s. One tenant, because to the first 100 sockets of each tenant tenantcast
    // announces who comes, and with many small tenants those announcements would be most of what opening costs; no peer has them.
    Scenario {
        name: "idle",
        file: "idle",
        settings: &["phases.measure=26", "tenants=1"],
        quick: &["phases.measure=4", "tenants=1"],
        publishes: false,
        nodes: 1,
    },
    // What two nodes and a Redis on one core can do with any of the contenders, and stay below it: what is compared is CPU a delivery.
    Scenario {
        name: "two-nodes",
        file: "fan-out-small",
        settings: &["connections=2000", "tenants=2", "publish.rate=200", "phases.measure=15"],
        quick: &["connections=2000", "tenants=2", "publish.rate=200", "phases.measure=4"],
        publishes: true,
        nodes: 2,
    },
    Scenario {
        name: "two-nodes-saturate",
        file: "saturate",
        settings: &["phases.measure=6"],
        quick: &["phases.measure=3"],
        publishes: true,
        nodes: 2,
    },
];

/// One line of the table.
pub struct Row {
    pub name: &'static str,
    pub scenario: &'static str,
    pub unit: &'static str,
    pub figure: Figure,
    pub better: Better,
    pub goal: Goal,
}

/// What is read from a report.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    DeliveriesPerCpuSecond,
    DeliveryP99Ms,
    LastDeliveryP99Ms,
    RequestsPerCpuSecond,
    CpuUsPerConnection,
    BytesPerConnection,
    /// Percent of a core.
    IdleCpu,
    PublishesPerSecond,
    /// Of what the nodes work with.
    RedisCpuUsPerPublish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// uWebSockets' figure of this run. Where it did not run: `of_socket_io` times socket.io's, the ratio of the two measured before.
    UWebSockets {
        of_socket_io: f64,
    },
    Absolute(f64),
    /// socket.io's figure of this run.
    SocketIo,
    ThreeTimesSocketIo,
    /// Told, and judged by whoever reads it.
    None,
}

pub const ROWS: &[Row] = &[
    Row {
        name: "deliveries per CPU-second, 100,000/s over 10,000 connections",
        scenario: "fan-out-small",
        unit: "",
        figure: Figure::DeliveriesPerCpuSecond,
        better: Better::Higher,
        goal: Goal::UWebSockets { of_socket_io: 392.0 / 179.0 },
    },
    Row {
        name: "p99 of a delivery at that load",
        scenario: "fan-out-small",
        unit: "ms",
        figure: Figure::DeliveryP99Ms,
        better: Better::Lower,
        goal: Goal::UWebSockets { of_socket_io: 11.0 / 173.0 },
    },
    Row {
        name: "deliveries per CPU-second, 50,000/s over 10,000 connections",
        scenario: "fan-out-half",
        unit: "",
        figure: Figure::DeliveriesPerCpuSecond,
        better: Better::Higher,
        goal: Goal::UWebSockets { of_socket_io: 392.0 / 179.0 },
    },
    Row {
        name: "p99 of a delivery at half that load",
        scenario: "fan-out-half",
        unit: "ms",
        figure: Figure::DeliveryP99Ms,
        better: Better::Lower,
        goal: Goal::UWebSockets { of_socket_io: 11.0 / 173.0 },
    },
    Row {
        name: "deliveries per CPU-second, saturated",
        scenario: "saturate",
        unit: "",
        figure: Figure::DeliveriesPerCpuSecond,
        better: Better::Higher,
        goal: Goal::UWebSockets { of_socket_io: 1377.0 / 146.0 },
    },
    Row {
        name: "last delivery of a publish to 10,000, p99",
        scenario: "fan-out-large",
        unit: "ms",
        figure: Figure::LastDeliveryP99Ms,
        better: Better::Lower,
        goal: Goal::Absolute(40.0),
    },
    Row {
        name: "acked requests per CPU-second, 20,000/s",
        scenario: "chat",
        unit: "",
        figure: Figure::RequestsPerCpuSecond,
        better: Better::Higher,
        goal: Goal::UWebSockets { of_socket_io: 107.0 / 49.0 },
    },
    Row {
        name: "CPU per connection opened, 20,000/s, each joins a room",
        scenario: "connect-storm",
        unit: "us",
        figure: Figure::CpuUsPerConnection,
        better: Better::Lower,
        goal: Goal::Absolute(40.0),
    },
    // One at a time: most of it is the system waking server and load for each step.
    Row {
        name: "CPU per connection opened, 2,000/s",
        scenario: "idle",
        unit: "us",
        figure: Figure::CpuUsPerConnection,
        better: Better::Lower,
        goal: Goal::Absolute(40.0),
    },
    Row {
        name: "resident bytes per idle connection",
        scenario: "idle",
        unit: "B",
        figure: Figure::BytesPerConnection,
        better: Better::Lower,
        goal: Goal::Absolute(2048.0),
    },
    Row {
        name: "CPU of 15,000 idle connections, heartbeats included",
        scenario: "idle",
        unit: "% of a core",
        figure: Figure::IdleCpu,
        better: Better::Lower,
        goal: Goal::Absolute(1.0),
    },
    Row {
        name: "two nodes: deliveries per CPU-second of both, 20,000/s over 2,000 connections",
        scenario: "two-nodes",
        unit: "",
        figure: Figure::DeliveriesPerCpuSecond,
        better: Better::Higher,
        goal: Goal::ThreeTimesSocketIo,
    },
    Row {
        name: "two nodes: p99 of a delivery at that load",
        scenario: "two-nodes",
        unit: "ms",
        figure: Figure::DeliveryP99Ms,
        better: Better::Lower,
        goal: Goal::SocketIo,
    },
    Row {
        name: "two nodes: CPU of Redis a publish at that load",
        scenario: "two-nodes",
        unit: "us",
        figure: Figure::RedisCpuUsPerPublish,
        better: Better::Lower,
        goal: Goal::None,
    },
    // Two nodes and their Redis share the core.
    Row {
        name: "two nodes: publishes a second, saturated",
        scenario: "two-nodes-saturate",
        unit: "",
        figure: Figure::PublishesPerSecond,
        better: Better::Higher,
        goal: Goal::SocketIo,
    },
    Row {
        name: "two nodes: deliveries per CPU-second of both, saturated",
        scenario: "two-nodes-saturate",
        unit: "",
        figure: Figure::DeliveriesPerCpuSecond,
        better: Better::Higher,
        goal: Goal::ThreeTimesSocketIo,
    },
];

/// The dialect of loadgen that a server speaks: a preset's name, or a file in the repository.
pub fn dialect(contender: Contender) -> &'static str {
    match contender {
        Contender::Tenantcast => "tenantcast",
        Contender::TenantcastEphemeral => "benches/peers/ephemeral.toml",
        Contender::UWebSockets => "websocket",
        Contender::Socketioxide | Contender::SocketIo => "socket.io",
    }
}
