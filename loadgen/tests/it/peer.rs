//! A server that speaks the preset `websocket`, and can be told to do one thing wrong. Threads and locks: it serves forty connections.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tungstenite::Message;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrong {
    #[default]
    Nothing,
    /// One publish does not reach one member.
    Lost,
    /// The last one does not: no later one shows it.
    LostLast,
    Twice,
    /// One member gets two publishes in the wrong order.
    Swapped,
    /// One publish reaches a member of another tenant.
    OtherTenant,
    /// One publish reaches a member of another room of the tenant.
    OtherRoom,
    /// What arrives was never sent.
    Invented,
    /// One request is not answered.
    Unanswered,
    /// One request is answered with something else.
    AnotherAnswer,
    /// One member is thrown out.
    ThrownOut,
    /// A member comes back and is not in its room.
    Forgotten,
}

/// Where it listens. It lives as long as the test.
pub fn start(wrong: Wrong) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let rooms = Arc::new(Mutex::new(Rooms { wrong, ..Rooms::default() }));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || serve(stream, &rooms));
        }
    });
    url
}

#[derive(Default)]
struct Rooms {
    wrong: Wrong,
    members: BTreeMap<String, Vec<TcpStream>>,
    joined: usize,
    publishes: usize,
    echoes: usize,
    /// Its room and payload.
    held: Option<(String, String)>,
    /// The one thing wrong has been done.
    done: bool,
}

fn serve(stream: TcpStream, rooms: &Mutex<Rooms>) {
    let mut own = stream.try_clone().expect("a second handle");
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let mut rooms = rooms.lock().expect("nobody panics with it");
        match text.split_once(' ') {
            Some(("join", room)) => {
                rooms.joined += 1;
                // Of forty connections the first that comes again.
                if !(rooms.wrong == Wrong::Forgotten && rooms.joined == 41) {
                    rooms.members.entry(room.to_owned()).or_default().push(own.try_clone().expect("a handle"));
                }
                send(&mut own, "joined");
            }
            Some(("pub", rest)) => {
                let (room, payload) = rest.split_once(' ').expect("pub ROOM PAYLOAD");
                rooms.publish(room, payload);
            }
            Some(("echo", payload)) => {
                rooms.echoes += 1;
                match rooms.wrong {
                    Wrong::Unanswered if rooms.echoes == 3 => {}
                    Wrong::AnotherAnswer if rooms.echoes == 3 => {
                        // The last digit of the place: another's answer.
                        send(&mut own, &format!("{}f{}", &payload[..28], &payload[29..]));
                    }
                    _ => send(&mut own, payload),
                }
            }
            _ => return,
        }
    }
}

impl Rooms {
    fn publish(&mut self, room: &str, payload: &str) {
        self.publishes += 1;
        let fifth = self.publishes == 5;
        let wrong = self.wrong;
        let held = self.held.take_if(|(held, _)| held == room).map(|(_, payload)| payload);
        let members = self.members.entry(room.to_owned()).or_default();
        for (index, member) in members.iter_mut().enumerate() {
            let last = index == 7;
            match wrong {
                Wrong::Lost if last && fifth => {}
                Wrong::LostLast if last && self.publishes > 5 => {}
                Wrong::Twice if last && fifth => {
                    send(member, payload);
                    send(member, payload);
                }
                Wrong::Swapped if last && !self.done && held.is_none() && self.held.is_none() => {
                    self.held = Some((room.to_owned(), payload.to_owned()));
                }
                Wrong::Swapped if last && held.is_some() => {
                    self.done = true;
                    send(member, payload);
                    send(member, held.as_deref().expect("it is some"));
                }
                // The sequence, behind mark, kind, run, room and place.
                Wrong::Invented if last && fifth => {
                    send(member, payload);
                    send(member, &format!("{}00700000{}", &payload[..29], &payload[37..]));
                }
                Wrong::ThrownOut if last && fifth => {
                    let _ = member.shutdown(std::net::Shutdown::Both);
                }
                _ => send(member, payload),
            }
        }
        let (tenant, name) = room.split_once(':').expect("TENANT:ROOM");
        let other = |key: &&String| match wrong {
            Wrong::OtherTenant => !key.starts_with(tenant) && key.ends_with(name),
            Wrong::OtherRoom => key.starts_with(tenant) && !key.ends_with(name),
            _ => false,
        };
        if let Some(key) = self.members.keys().find(other).filter(|_| fifth).cloned() {
            send(&mut self.members.get_mut(&key).expect("it was found")[0], payload);
        }
    }
}

/// One text frame of a server: not masked.
fn send(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ 0..=125) => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend((text.len() as u16).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    let _ = stream.write_all(&frame);
}
