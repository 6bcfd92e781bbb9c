//! The child processes that make the load: started, ordered about, listened to, ended.
//!
//! Invariant: no child outlives its [`Crew`]: it ends when its stdin does, and is killed if that takes too long.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::unix::pipe::Receiver;
use mio::{Events, Interest, Poll, Token};

use crate::clock::{Alarm, now_us};
use crate::process::Process;
use crate::protocol::{Lines, News, Order, Setup, line};

/// The subcommand that makes this binary a child.
pub const SUBCOMMAND: &str = "worker";
const ALARM: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;

pub struct Crew {
    children: Vec<Hand>,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    news: VecDeque<News>,
    buffer: Vec<u8>,
}

struct Hand {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver,
    lines: Lines,
    /// It has said its last word.
    finished: bool,
}

impl Crew {
    /// Starts a child for each setup.
    pub fn start(setups: Vec<Setup>) -> Result<Crew> {
        let poll = Poll::new().context("epoll")?;
        let alarm = Alarm::new().context("timerfd")?;
        poll.registry().register(&mut SourceFd(&alarm.raw_fd()), ALARM, Interest::READABLE)?;
        let own = std::env::current_exe().context("finding the own executable")?;
        let mut crew = Crew {
            children: Vec::new(),
            poll,
            events: Events::with_capacity(64),
            alarm,
            news: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
        };
        for (index, setup) in setups.into_iter().enumerate() {
            let mut command = Command::new(&own);
            command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().with_context(|| format!("starting {}", own.display()))?;
            let stdin = child.stdin.take();
            let stdout = child.stdout.take().context("the child's stdout is piped")?;
            let mut stdout = Receiver::from(stdout);
            stdout.set_nonblocking(true)?;
            crew.poll.registry().register(&mut stdout, Token(index), Interest::READABLE)?;
            crew.children.push(Hand { child, stdin, stdout, lines: Lines::default(), finished: false });
            crew.children[index].order(&Order::Setup(Box::new(setup)))?;
        }
        Ok(crew)
    }

    pub fn order(&mut self, order: &Order) -> Result<()> {
        self.children.iter_mut().try_for_each(|hand| hand.order(order))
    }

    pub fn processes(&self) -> Vec<Process> {
        self.children.iter().map(|hand| Process { pid: hand.child.id() }).collect()
    }

    /// The next news of any child; `None` once it is `until_us`, or a signal came.
    pub fn wait(&mut self, until_us: u64) -> Result<Option<News>> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return match news {
                    News::Failed(reason) => bail!("{reason}"),
                    news => Ok(Some(news)),
                };
            }
            if now_us() >= until_us {
                return Ok(None);
            }
            self.alarm.set(until_us).context("timerfd")?;
            match self.poll.poll(&mut self.events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
                outcome => outcome.context("epoll")?,
            }
            let ready: Vec<Token> = self.events.iter().map(mio::event::Event::token).collect();
            for token in ready {
                match token {
                    ALARM => self.alarm.fired(),
                    Token(index) => self.listen(index)?,
                }
            }
        }
    }

    fn listen(&mut self, index: usize) -> Result<()> {
        let hand = &mut self.children[index];
        loop {
            match hand.stdout.read(&mut self.buffer) {
                Ok(0) if hand.finished => return Ok(()),
                Ok(0) => bail!("load process {index} ended before its time"),
                Ok(count) => hand.lines.push(&self.buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a load process's stdout"),
            }
            while let Some(news) = hand.lines.take::<News>() {
                let news = news.map_err(anyhow::Error::msg)?;
                hand.finished |= matches!(news, News::Result(_) | News::Failed(_));
                self.news.push_back(news);
            }
        }
    }
}

impl Hand {
    fn order(&mut self, order: &Order) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it is ordered about while it lives")?;
        stdin.write_all(&line(order)).context("a load process is gone")
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for hand in &mut self.children {
            hand.stdin = None;
        }
        for hand in &mut self.children {
            // One that is done ends by itself; one that is not would notice its leader's end, and there is nothing to wait for.
            if !hand.finished {
                let _ = hand.child.kill();
            }
            let _ = hand.child.wait();
        }
    }
}
