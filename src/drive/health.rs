//! Whether all that runs without which the server is none. What has failed is not mended while the process lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by all who tell and all who ask.
#[derive(Clone, Debug, Default)]
pub struct Health {
    failed: Arc<AtomicBool>,
}

impl Health {
    /// Whether nothing has failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// For a thread that must not end.
    #[must_use]
    pub fn duty(&self) -> Duty {
        Duty(self.clone())
    }

    /// Runs a task that must not panic on this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (task, health) = (actix::spawn(task), self.clone());
        actix::spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "a bug: a task that must not end has panicked");
                health.fail();
            }
        });
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// Something has failed when this is dropped.
#[derive(Debug)]
pub struct Duty(Health);

impl Drop for Duty {
    fn drop(&mut self) {
        self.0.fail();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;

    use super::*;

    async fn others_run() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[actix::test]
    async fn a_task_may_end_but_not_panic() {
        let health = Health::default();
        health.spawn(ready(()));
        health.spawn(pending());
        others_run().await;
        assert!(health.is_good());
        health.spawn(async { panic!("on purpose") });
        others_run().await;
        assert!(!health.is_good());
    }
}
