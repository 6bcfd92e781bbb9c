//! A panic on a shard's thread ends the process.

use std::{cell::Cell, sync::Once};

thread_local! {
    static ON_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a shard's.
pub fn is_shard() {
    ON_SHARD.set(true);
}

/// See boot's panic policy. glommio would catch the panic and leave the shard half alive.
pub fn abort_on_shard_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            if ON_SHARD.get() {
                eprintln!("tenantcast: a shard has panicked, its state is suspect: the process ends");
                std::process::abort();
            }
        }));
    });
}
