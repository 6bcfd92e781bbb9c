//! Arguments in, exit code out: 0 ended well, 1 the server could not start or ended badly, 2 the command line or configuration is wrong.

use std::process::ExitCode;

// Small size classes without headers, and memory given back to the system: an idle connection is many small pieces. Built not to
// ask for huge pages (`no_thp`), as it does before main begins; see `refuse_huge_pages` for a system that gives them unasked.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tenantcast::boot::refuse_huge_pages();
    tenantcast::cli::run(tenantcast::boot::unix_now(), tenantcast::boot::serve)
}
