//! What the system lets this process have. It raises a limit as far as it may, and tells when that is too little.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to what the system allows, and warns when `wanted` connections do not fit.
pub fn raise_open_files(wanted: usize) {
    let limit = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(limit).and_then(|(_, most)| setrlimit(limit, most, most).map(|()| most));
    match raised {
        Ok(most) if usize::try_from(most).is_ok_and(|most| most < wanted) => {
            tracing::warn!(most, wanted, "fewer files may be open than connections are allowed: raise `ulimit -n`");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}
