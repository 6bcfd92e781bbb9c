//! What is looked at ten times a second while the loop runs: Ctrl-C, the server's life, the progress bar.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::now_us;
use crate::server::{Ended, Server};

const LOOK_EVERY_US: u64 = 100_000;

pub struct Watch {
    /// The server, if it was started here.
    pub server: Option<Server>,
    /// Set by the signal handler: the one thing a handler may do.
    interrupted: Arc<AtomicBool>,
    bar: ProgressBar,
    looked_at: u64,
}

impl Watch {
    pub fn new() -> Result<Watch> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second Ctrl-C ends the process at once, in case the first is not enough.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted)).context("signals")?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signals")?;
        }
        Ok(Watch { server: None, interrupted, bar: ProgressBar::hidden(), looked_at: 0 })
    }

    /// Begins a phase with its own bar; drawn only if stderr is a terminal.
    pub fn phase(&mut self, name: &'static str, total: u64) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:10} [{bar:40}] {human_pos}/{human_len} {per_sec} {elapsed}");
        self.bar.set_style(style.expect("the template is valid").progress_chars("=> "));
        self.bar.set_message(name);
    }

    /// Cheap to call every turn. The error says why the run cannot go on.
    pub fn tick(&mut self, position: u64) -> Result<()> {
        let now = now_us();
        if now < self.looked_at + LOOK_EVERY_US {
            return Ok(());
        }
        self.looked_at = now;
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if let Some(reason) = self.server.as_mut().and_then(Server::ended) {
            return Err(Ended(reason).into());
        }
        self.bar.set_position(position);
        Ok(())
    }

    pub fn done(&mut self) {
        self.bar.finish_and_clear();
    }
}
